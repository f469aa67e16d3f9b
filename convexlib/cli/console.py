"""What every command shares, those of the experiments too: exit codes, messages, and files.

Files that anybody may have made are read whole or refused in one line.
"""

from __future__ import annotations

import argparse
import codecs
import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from convexlib.datasets import atomic
from convexlib.errors import ConvexlibError, DataError, InputError, SolverError

DONE, FAILED, BAD_INPUT = 0, 1, 2
MAX_BYTES = 256 * 2**20  # of a file that is read
PLAIN = {
    "\u00b1": "+-",
    "\u00d7": "x",
    "\u2013": "-",
    "\u2212": "-",
    "\u2026": "...",
    "\u2264": "<=",
}
INTERRUPTED = 130  # as shells have it: 128 and the number of the signal


def write_plainly() -> None:
    """Write what the terminal's encoding lacks in ASCII, so that no character stops the output."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="convexlib.plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    """What stands for the characters that an encoding lacks."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(PLAIN.get(character, "?") for character in lacking), error.end


codecs.register_error("convexlib.plain", _plain)


def complain(message: object, program: str = "convexlib") -> None:
    """Print one line on stderr."""
    print(f"{program}:", " ".join(str(message).split()), file=sys.stderr)


def tell(text: str = "", end: str = "\n") -> None:
    """Print at once; a reader who has seen enough, as in `... | head`, stops no work.

    Raises
    ------
    DataError
        If the output cannot be written for another reason.
    """
    try:
        print(text, end=end, flush=True)
    except OSError as error:
        # What is left in the buffer would fail again, at the latest when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            raise DataError(f"the output cannot be written ({reason(error)}).") from error


def say(name: str, text: str) -> None:
    """Print one line in two columns, at once."""
    tell(f"{name:13}{text}")


@contextmanager
def warnings_in_one_line(program: str = "convexlib") -> Iterator[None]:
    """Print warnings as other messages are, without the line of code that gave them."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: complain(message, program)
        yield


def exit_code(chosen: argparse.Namespace, program: str = "convexlib") -> int:
    """Run the command that was chosen; its exit code, also where it fails on purpose."""
    try:
        code: int = chosen.run(chosen)
    except ConvexlibError as error:
        # Notes say where it happened, as in which configuration of many.
        complain(" ".join([str(error), *getattr(error, "__notes__", ())]), program)
        return FAILED if isinstance(error, DataError | SolverError) else BAD_INPUT
    except KeyboardInterrupt as stopped:
        complain(str(stopped) or "interrupted", program)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has seen enough, as in `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    return code


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


def check_writable(path: Path, *inputs: Path) -> None:
    """Refuse a path that nothing can be written to, or that is an input, before the work is done.

    Raises
    ------
    DataError
        If it cannot be written.
    InputError
        If it is the file of an input, by whatever name: what was read would be lost.
    """
    read = next((taken for taken in inputs if _same(path, taken)), None)
    if read is not None:
        raise InputError(
            f"{path} is the same file as {read}, which is read and would be lost; expected another "
            "one to write. Name a new file."
        )
    try:
        folder, taken = path.resolve().parent, path.is_dir()
        needed = path if _is_special(path) else folder
        possible = folder.is_dir() and os.access(needed, os.W_OK)
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise DataError(f"{path} cannot be written ({reason(error)}).") from error
    if taken or not possible:
        kind = "folder" if needed == folder else "pipe or device"
        text = "it is a directory" if taken else f"{needed} is not a {kind} that can be written to"
        raise DataError(f"{path} cannot be written: {text}.")


def _same(path: Path, other: Path) -> bool:
    """Whether two paths lead to one file, through links too."""
    try:
        return os.path.samefile(path, other)
    except (OSError, ValueError):  # one of them is not there, which is said elsewhere
        return False


def write(path: Path, content: bytes) -> None:
    """Write a file in one move, so that no half of one is ever left; into pipes and devices."""
    try:
        if _is_special(path):
            path.write_bytes(content)
        else:
            atomic.write(path.resolve(), content)  # the file that a link names, not the link
    except OSError as error:
        raise DataError(f"{path} cannot be written ({reason(error)}).") from error


def _is_special(path: Path) -> bool:
    """Whether it is there and no regular file: a rename would replace a pipe or a device by one."""
    return path.exists() and not path.is_file()


def reason(error: Exception) -> str:
    """What the system says, without its number and path."""
    return getattr(error, "strerror", None) or str(error)
