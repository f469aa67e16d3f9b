"""What may come of a call: a valid result, an error that convexlib raises on purpose, no third way.

Errors on purpose are those of `convexlib.errors`. Of Python's and scikit-learn's own, these count:

* ``TypeError`` for a call that does not fit the signature, as every Python function gives it;
* what scikit-learn's validation raises (``ValueError``, ``TypeError``, ``NotFittedError``) in the
  estimators, as its protocol demands;
* ``SystemExit`` of argparse in the command line.

Warnings are errors, but for ConvergenceWarning and what an entry says that it may give.
"""

import re
import signal
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numba.core import event

from convexlib.errors import ConvergenceWarning, ConvexlibError

LIMIT = 5.0  # seconds of processor time per input
SIGNATURE = re.compile(
    r"unexpected keyword argument|missing \d+ required|positional argument|multiple values for"
)
SCIKIT_LEARN = "site-packages/sklearn/"
VALID = "valid"


@dataclass(frozen=True)
class Case:
    """One input: what is called, what must hold of its result, and the warnings it may give."""

    text: str
    call: Callable[[], Any]
    check: Callable[[Any], None]
    may_warn: tuple[type[Warning], ...] = ()
    estimator: bool = False


@dataclass(frozen=True)
class Outcome:
    """How an input ended; `fault` is the place and kind of a failure, empty where it is none."""

    kind: str
    fault: str = ""
    trace: str = ""


class OutOfTime(BaseException):
    """Raised by the timer; no library catches it as an Exception."""


def judge(case: Case, limit: float = LIMIT) -> Outcome:
    """Run a case under its time limit; one that exceeds it has another try, with all compiled."""
    outcome = _once(case, limit)
    return _once(case, limit) if outcome.kind == "hang" else outcome


def _once(case: Case, limit: float) -> Outcome:
    """Run a case once."""
    before = signal.signal(signal.SIGPROF, _stop)
    signal.setitimer(signal.ITIMER_PROF, limit, 1.0)  # again, where a destructor swallowed it
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for category in (ConvergenceWarning, *case.may_warn):
                warnings.simplefilter("ignore", category)
            case.check(case.call())
        return Outcome(VALID)
    except OutOfTime as error:
        return Outcome("hang", f"hang at {place(error)}", _trace(error))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  # whatever it is, it is the finding
        return classified(error, case)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)


def classified(error: BaseException, case: Case) -> Outcome:
    """The kind of an error, and where it was raised if it is none that may be."""
    name = type(error).__name__
    if isinstance(error, ConvexlibError):
        if str(error).strip():
            return Outcome(name)
        return Outcome(name, f"{name} without a message at {place(error)}", _trace(error))
    if isinstance(error, TypeError) and SIGNATURE.search(str(error)):
        return Outcome("signature")
    frames = traceback.extract_tb(error.__traceback__)
    if case.estimator and isinstance(error, ValueError | TypeError) and _of_scikit_learn(frames):
        return Outcome("scikit-learn")
    return Outcome(name, f"{name} at {place(error)}: {str(error)[:90]}", _trace(error))


def _of_scikit_learn(frames: traceback.StackSummary) -> bool:
    """Whether convexlib had handed over to scikit-learn when an error was raised."""
    files = [frame.filename for frame in frames]
    last = max((k for k, name in enumerate(files) if "/convexlib/" in name), default=-1)
    return any(SCIKIT_LEARN in name for name in files[last + 1 :])


def place(error: BaseException) -> str:
    """The innermost line of convexlib, or of the check, that an error passed."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/convexlib/" in frame.filename]
    frame = (own or frames)[-1]
    return f"{frame.filename.rpartition('/convexlib/')[2].rpartition('/fuzz/')[2]}:{frame.name}"


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)[-12:])


class _Compiling(event.Listener):
    """Knows whether numba compiles a kernel: to interrupt it there would break the kernel."""

    depth = 0

    def on_start(self, _: Any) -> None:
        """Enter."""
        self.depth += 1

    def on_end(self, _: Any) -> None:
        """Leave."""
        self.depth -= 1


_compiling = _Compiling()
event.register("numba:compile", _compiling)


def _stop(*_: Any) -> None:
    if not _compiling.depth:  # else the timer rings again a second later
        raise OutOfTime
