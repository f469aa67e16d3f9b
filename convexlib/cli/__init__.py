"""The command line: `convexlib` or `python -m convexlib`.

Every subcommand is a module here, imported when it is used: `define` gives its parser arguments and
`run`, a function from the parsed arguments to the exit code: 0 done, 1 a result missed its
tolerance or a file is not intact, 2 bad arguments or input, 130 interrupted. An error that
convexlib raises on purpose is one line on stderr. The experiments have a command line of their own,
`python -m experiments`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

import convexlib
from convexlib.cli.console import BAD_INPUT, complain, exit_code, write_plainly

__all__ = ["main"]

COMMANDS = {
    "data": "fetch, verify or list the data files",
    "fit": "train a certified two-layer ReLU network on a table",
    "predict": "apply a network of `convexlib fit` to a table",
    "certify": "bound how far a trained network is from the global optimum",
    "warm": "compile all kernels now, so that no later call has to wait for that",
}
MOVED = ("list", "run", "table")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (argparse exits with 2 by itself)."""
    write_plainly()
    words = list(sys.argv[1:] if arguments is None else arguments)
    # The imports take seconds, which Ctrl-C is to end in a line as it ends the command.
    return exit_code(argparse.Namespace(run=lambda _: _run(words)))


def _run(words: list[str]) -> int:
    """Import what the words ask for, and run it."""
    if words and words[0] in MOVED:
        complain(
            f"got {words[0]!r}, a command of the experiments, which are no part of the library; "
            f"expected `python -m experiments {words[0]}`, in a checkout of the repository."
        )
        return BAD_INPUT
    parser = argparse.ArgumentParser(prog="convexlib", description="Neural networks made convex.")
    version = getattr(convexlib, "__version__", "of a checkout that is not installed")
    parser.add_argument("--version", action="version", version=f"convexlib {version}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        if name in words:  # the others need not be imported
            import_module(f"convexlib.cli.{name}").define(command)
    chosen = parser.parse_args(words)
    code: int = chosen.run(chosen)
    return code
