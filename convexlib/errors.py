"""Every error that convexlib raises on purpose, and the warning it gives.

A message says what was got, what was expected and what to do about it.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sklearn.exceptions import ConvergenceWarning

__all__ = [
    "ConvergenceWarning",
    "ConvexlibError",
    "DataError",
    "InputError",
    "NotCertifiableError",
    "ProblemError",
    "SolverError",
    "TooManyArrangementsError",
]


_silent = ContextVar("silent", default=False)


def __getattr__(name: str) -> type[Warning]:
    # scikit-learn takes longer to import than all else, and only its warning is needed here.
    if name == "ConvergenceWarning":
        from sklearn.exceptions import ConvergenceWarning

        return ConvergenceWarning
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class ConvexlibError(Exception):
    """Base of all errors raised on purpose by convexlib."""


class InputError(ConvexlibError, ValueError):
    """An argument has the wrong type, shape, value, dtype or device."""


class TooManyArrangementsError(InputError):
    """The data have (or may have) more activation patterns than allowed."""


class ProblemError(ConvexlibError, ValueError):
    """A problem and what is asked of it do not fit together."""


class DataError(ConvexlibError, OSError):
    """A data file is missing, unreadable or not the file that the manifest names."""


class SolverError(ConvexlibError, RuntimeError):
    """A solver failed, or cannot solve this kind of problem."""


class NotCertifiableError(ConvexlibError, ValueError):
    """No certificate exists for this kind of network."""


def first_line(error: Exception) -> str:
    """The first line of what another library's error says, for a message."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]


def warn(message: str) -> None:
    """Give a ConvergenceWarning that points at the line which called the library."""
    if _silent.get():
        return
    from sklearn.exceptions import ConvergenceWarning

    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("convexlib"):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, ConvergenceWarning, stacklevel=level)


@contextmanager
def unwarned() -> Iterator[None]:
    """Without ConvergenceWarnings: whoever solves a part judges the gap of the whole."""
    before = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(before)
