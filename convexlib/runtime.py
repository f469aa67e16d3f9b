"""What has to be right in a process before anything is computed in it.

*A place for compiled kernels.* numba refuses to define a cached kernel where it can write neither
beside the code nor into the user's cache, as in a read-only installation without a home; `import
convexlib` would then fail. It gets a temporary folder instead.

*Threads after a fork.* A forked child inherits torch's pool of threads as numbers without threads
behind them, and waits for ever at its first threaded product. This is so for torch alone, and for
the workers of every pool that forks. So a child begins with one thread.

*A clock that leaves compilation out.* The first call of a kernel compiles it, which may take longer
than everything else; how long a solve takes is what it takes the second time.

*A limit of time.* It ends a computation as Ctrl-C would: where the code looks at it, an exception
is raised, once, and whoever catches interrupts closes with the best that there is.
"""

from __future__ import annotations

import atexit
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numba
import torch
from numba.core import event


def _nothing() -> None:
    """Stand in for a kernel."""


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


def check_time() -> None:
    """Raise OutOfTime if the limit has passed; after that there is none, for what has to close."""
    if time_left() < 0.0:
        _deadline.set(math.inf)
        raise OutOfTime


find_place()
event.register("numba:compile", _compiling)
os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))
