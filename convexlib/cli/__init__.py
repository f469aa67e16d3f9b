"""The command line: `convexlib` or `python -m convexlib`.

Every subcommand is a function that adds its parser and sets `run`, a function from the parsed
arguments to the exit code: 0 done, 1 a result missed its tolerance or a file is not intact, 2 bad
arguments or input, 130 interrupted. An error that convexlib raises on purpose is one line on
stderr.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from convexlib.cli.certify import add_certify
from convexlib.cli.console import (
    BAD_INPUT,
    DONE,
    FAILED,
    INTERRUPTED,
    complain,
    write_plainly,
)
from convexlib.cli.data import add_data
from convexlib.cli.experiments import add_list, add_run, add_table
from convexlib.errors import ConvexlibError, DataError, SolverError

__all__ = ["main"]

COMMANDS = (add_data, add_list, add_run, add_table, add_certify)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (argparse exits with 2 by itself)."""
    write_plainly()
    parser = argparse.ArgumentParser(prog="convexlib", description="Neural networks made convex.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in COMMANDS:
        add(commands)
    chosen = parser.parse_args(arguments)
    try:
        code: int = chosen.run(chosen)
    except ConvexlibError as error:
        complain(error)
        return FAILED if isinstance(error, DataError | SolverError) else BAD_INPUT
    except KeyboardInterrupt as stopped:
        complain(str(stopped) or "interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has seen enough, as in `... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    return code
