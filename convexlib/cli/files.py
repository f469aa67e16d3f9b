"""Files that anybody may have made, read whole or refused in one line; and files that we write."""

from __future__ import annotations

import os
from pathlib import Path

from convexlib.datasets import atomic
from convexlib.errors import DataError, InputError

MAX_BYTES = 256 * 2**20


def read_bytes(path: Path, what: str) -> bytes:
    """The content of a regular file; pipes and devices, which may never end, are refused.

    Raises
    ------
    DataError
        If there is no such file, or it cannot be read.
    InputError
        If it is empty or larger than 256 MB.
    """
    if os.path.isdir(path):  # unlike those of Path, these two never raise
        raise DataError(f"{what} {path} is a directory; expected a file.")
    if os.path.exists(path) and not os.path.isfile(path):
        raise DataError(f"{what} {path} is not a regular file; expected the path of one.")
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
        raise DataError(f"{what} {path} cannot be read ({reason(error)}).") from error
    if not content:
        raise InputError(f"{what} {path} is empty.")
    if len(content) > MAX_BYTES:
        raise InputError(
            f"{what} {path} is larger than {MAX_BYTES // 2**20} MB; expected a smaller one. Call "
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
    try:
        atomic.write(path, content)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({reason(error)}).") from error


def reason(error: Exception) -> str:
    """What the system says, without its number and path."""
    return getattr(error, "strerror", None) or str(error)
