"""Write files that are complete or not there at all; clean up after writers that were killed."""

from __future__ import annotations

import os
import platform
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SUFFIX = ".part"
WRITER = re.compile(rf"\.(?P<node>[^.]*)\.(?P<pid>\d+){re.escape(SUFFIX)}$")
ABANDONED = 3600.0  # seconds; a file is written in far less


def write(path: Path, content: bytes) -> None:
    """Write a whole file or nothing: under a temporary name, then renamed. It keeps its mode.

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written; nothing is left behind.
    """
    with _part(path, content) as part:
        part.replace(path)


def probe(folder: Path) -> None:
    """Write a small file into a folder, made if need be, and remove it.

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written.
    """
    with _part(folder / "probe", bytes(4096)) as part:
        part.unlink()


@contextmanager
def _part(path: Path, content: bytes) -> Iterator[Path]:
    """Write a temporary file beside `path`; it is gone when anything fails, an interrupt too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{_node()}.{os.getpid()}{SUFFIX}")
    try:
        with part.open("wb") as stream:
            if path.exists():  # what nobody else may read stays so
                shutil.copymode(path, part)
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())  # a network folder may report only here that it is full
        yield part
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def sweep(folder: Path) -> None:
    """Remove the temporary files of writers that have ended; those of running ones stay."""
    for part in folder.glob(f"*{SUFFIX}"):
        with suppress(OSError):  # another process sweeps as well, or the writer is somebody else's
            if _abandoned(part):
                part.unlink()


def _abandoned(part: Path) -> bool:
    """Whether no process is going to rename this file."""
    if time.time() - part.stat().st_mtime > ABANDONED:
        return True
    named = WRITER.search(part.name)
    if named is None or named["node"] != _node():  # another machine's: only its age says something
        return False
    try:
        os.kill(int(named["pid"]), 0)
    except ProcessLookupError:
        return True
    return False


def _node() -> str:
    """Return the name of this machine without dots."""
    return platform.node().replace(".", "-")
