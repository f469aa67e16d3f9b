"""Files that anybody may have made: read whole, up to a size, or refused in one line."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from convexlib.errors import DataError, InputError
from convexlib.store import atomic

MAX_BYTES = 256 * 2**20


def read_bytes(path: Path, what: str, max_bytes: int = MAX_BYTES) -> bytes:
    """The content of a regular file; pipes and devices, which may never end, are refused.

    Raises
    ------
    DataError
        If there is no such file, or it cannot be read.
    InputError
        If it is empty or larger than `max_bytes`.
    """
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise DataError(f"{what} {path} is a directory; expected a file.")
        if not stat.S_ISREG(mode):
            raise DataError(f"{what} {path} is not a regular file; expected the path of one.")
        with path.open("rb") as stream:
            content = stream.read(max_bytes + 1)
    except DataError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
        raise DataError(f"{what} {path} cannot be read ({reason(error)}).") from error
    if not content:
        raise InputError(f"{what} {path} is empty.")
    if len(content) > max_bytes:
        raise InputError(
            f"{what} {path} is larger than {max_bytes // 2**20} MB; expected a smaller one. Call "
            "convexlib.certify from Python for more."
        )
    return content


def check_writable(path: Path) -> None:
    """Refuse a path that nothing can be written to, before the work is done."""
    try:
        folder, taken = path.resolve().parent, path.is_dir()
        possible = folder.is_dir() and os.access(folder, os.W_OK)
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be written ({reason(error)}).") from error
    if taken or not possible:
        text = "it is a directory" if taken else f"{folder} is not a folder that can be written to"
        raise DataError(f"{path} cannot be written: {text}.")


def write(path: Path, content: bytes) -> None:
    """Write a file in one move, so that no half of one is ever left."""
    check_writable(path)
    try:
        atomic.write(path, content)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({reason(error)}).") from error


def reason(error: Exception) -> str:
    """What the system says, without its number and path."""
    return getattr(error, "strerror", None) or str(error)
