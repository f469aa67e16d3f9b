"""Somewhere to keep compiled kernels: beside the code, in the user's cache, else in a folder here.

numba refuses to define a cached kernel where it can write to neither of the first two, as in a
read-only installation without a home; `import convexlib` would then fail.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile

import numba

__all__ = ["find_place"]


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


find_place()
