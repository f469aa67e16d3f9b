"""What every command shares, those of the experiments too: exit codes and messages."""

from __future__ import annotations

import argparse
import codecs
import io
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from convexlib.errors import ConvexlibError, DataError, SolverError

DONE, FAILED, BAD_INPUT = 0, 1, 2
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


def say(name: str, text: str) -> None:
    """Print one line in two columns, at once."""
    print(f"{name:13}{text}", flush=True)


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
        complain(error, program)
        return FAILED if isinstance(error, DataError | SolverError) else BAD_INPUT
    except KeyboardInterrupt as stopped:
        complain(str(stopped) or "interrupted", program)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has seen enough, as in `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    return code
