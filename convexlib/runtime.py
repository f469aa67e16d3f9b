"""What has to be right in a process before a kernel is compiled in it.

Modules with kernels import this one first.

*A place for compiled kernels.* numba refuses to define a cached kernel where it can write neither
beside the code nor into the user's cache, as in a read-only installation without a home; their
modules could then not be imported. It gets a temporary folder instead.

*A line where one waits.* Compilation takes many seconds, once on a machine, and looks like a call
that hangs.

*A clock that leaves compilation out.* The first call of a kernel compiles it, which may take longer
than everything else; how long a solve takes is what it takes the second time.

*A limit of time.* It ends a computation as Ctrl-C would: where the code looks at it, an exception
is raised, once, and whoever catches interrupts closes with the best that there is.

*A sign of life.* Where the code looks at the limit, the seconds of a line on a terminal go on.
"""

from __future__ import annotations

import atexit
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

import numba
from numba.core import event
from tqdm import tqdm

QUIET = "CONVEXLIB_QUIET"  # a variable of the environment: where it is set, nothing is said
PATIENCE = 1.0  # seconds of compilation before something is said
AGAIN = 2.5  # and before it is said again, on a terminal


def _nothing() -> None:
    """Stand in for a kernel, or for a call."""


def find_place() -> str | None:
    """Give numba a private temporary folder if it has no other place, and return its name.

    Notes
    -----
    Called once, before any kernel is defined. Checked by ``tests/test_environment.py``.
    """
    try:
        numba.njit(cache=True)(_nothing)  # nothing is compiled before a call
    except RuntimeError:
        folder = tempfile.mkdtemp(prefix="convexlib-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        setattr(numba.config, "CACHE_DIR", folder)  # noqa: B010  # numba makes its attributes late
        return folder
    return None


_compiling = event.TimingListener()


def clock() -> float:
    """Seconds on the wall, without those in which numba compiled.

    Notes
    -----
    Checked by ``tests/test_environment.py``.
    """
    return time.perf_counter() - (_compiling.duration if _compiling.done else 0.0)


class OutOfTime(KeyboardInterrupt):
    """The limit of `time_limit` has passed."""


_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Let `check_time` raise after so many seconds on `clock`, or at an outer limit before."""
    token = _deadline.set(min(clock() + seconds, _deadline.get()))
    try:
        yield
    finally:
        _deadline.reset(token)


def time_left() -> float:
    """Seconds up to the limit, infinite without one."""
    return _deadline.get() - clock()


_sign: ContextVar[Callable[[], object]] = ContextVar("sign", default=_nothing)


@contextmanager
def waiting(name: str, shown: bool = True) -> Iterator[Callable[[str], object]]:
    """Show on a terminal a name, the seconds that pass, and what the function given is told."""
    with tqdm(
        desc=name, bar_format="{desc} {elapsed}{postfix}", miniters=0, leave=False,
        disable=None if shown else True,
    ) as line:  # fmt: skip
        if line.disable:  # the seconds of one that is shown go on
            yield line.set_postfix_str
            return
        token = _sign.set(lambda: line.update(0))
        try:
            yield line.set_postfix_str
        finally:
            _sign.reset(token)


def check_time() -> None:
    """Raise OutOfTime if the limit has passed; after that there is none, for what has to close."""
    _sign.get()()
    if time_left() < 0.0:
        _deadline.set(math.inf)
        raise OutOfTime


def out_of_time() -> bool:
    """Whether the limit has passed, for loops whose result is valid wherever they end.

    The limit stays: what follows ends early as well, up to the next `check_time`.
    """
    _sign.get()()
    return time_left() < 0.0


class Notice(event.Listener):
    """Says on stderr that kernels are being compiled, when it has taken a second.

    numba tells it of every function, also of those that a kernel consists of; of a kernel that it
    finds compiled, it tells nothing. Kernels of others do not count. It is said once, and on a
    terminal again while it lasts.

    Attributes
    ----------
    said : bool
        Whether it has been said, or need not be.
    """

    def __init__(self, often: str) -> None:
        self.often, self.said = often, False
        self._depth, self._ours, self._began, self._spent = 0, False, 0.0, 0.0
        self._next = PATIENCE

    def on_start(self, compiled: event.Event) -> None:
        if self._depth == 0:
            function = getattr(compiled.data["dispatcher"], "py_func", None)
            self._ours = str(getattr(function, "__module__", "")).startswith("convexlib.")
            self._began = time.perf_counter()
        self._depth += 1
        self._say()

    def on_end(self, compiled: event.Event) -> None:
        self._depth -= 1
        if self._depth:
            self._say()
        elif self._ours:
            self._spent += time.perf_counter() - self._began

    def _say(self) -> None:
        spent = self._spent + time.perf_counter() - self._began
        if not self._ours or spent < self._next or os.environ.get(QUIET):
            return
        again, self.said, self._next = self.said, True, spent + AGAIN
        if sys.stderr is not None:
            with suppress(OSError, ValueError):  # closed: no reason to stop a compilation
                if not again:
                    sys.stderr.write(f"convexlib: compiling kernels, {self.often} ...\n")
                elif sys.stderr.isatty():
                    sys.stderr.write("convexlib: still compiling ...\n")
                sys.stderr.flush()


place = find_place()
notice = Notice(
    "once on this machine"
    if place is None
    else "in every process; name a folder for them in NUMBA_CACHE_DIR"
)
event.register("numba:compile", _compiling)
event.register("numba:compile", notice)
