"""The command line: `convexlib` or `python -m convexlib`.

Every subcommand is a function that adds its parser and sets `run`, a function from the parsed
arguments to the exit code: 0 done, 1 a result missed its tolerance or a file is not intact, 2 bad
arguments or input, 130 interrupted. An error that convexlib raises on purpose is one line on
stderr. The experiments have a command line of their own, `python -m experiments`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from convexlib.cli.certify import add_certify
from convexlib.cli.console import BAD_INPUT, complain, exit_code, write_plainly
from convexlib.cli.data import add_data
from convexlib.cli.fit import add_fit, add_predict

__all__ = ["main"]

COMMANDS = (add_data, add_fit, add_predict, add_certify)
MOVED = ("list", "run", "table")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (argparse exits with 2 by itself)."""
    write_plainly()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in MOVED:
        complain(
            f"got {words[0]!r}, a command of the experiments, which are no part of the library; "
            f"expected `python -m experiments {words[0]}`, in a checkout of the repository."
        )
        return BAD_INPUT
    parser = argparse.ArgumentParser(prog="convexlib", description="Neural networks made convex.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for add in COMMANDS:
        add(commands)
    return exit_code(parser.parse_args(words))
