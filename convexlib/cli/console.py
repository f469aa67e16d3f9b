"""What every command shares: exit codes, messages and the choice of a device."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from convexlib.errors import InputError

DONE, FAILED, BAD_INPUT = 0, 1, 2
INTERRUPTED = 130  # as shells have it: 128 and the number of the signal


def complain(message: object) -> None:
    """Print one line on stderr."""
    print("convexlib:", " ".join(str(message).split()), file=sys.stderr)


@contextmanager
def warnings_in_one_line() -> Iterator[None]:
    """Print warnings as other messages are, without the line of code that gave them."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: complain(message)
        yield


def device(name: str) -> str:
    """Return the name of a device that is there."""
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device {name!r} cannot be used ({str(error).splitlines()[0]}); expected cpu, or "
            "cuda on a machine that has it."
        ) from error
    return name
