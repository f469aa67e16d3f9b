"""Run the command line of the experiments: `python -m experiments`."""

import sys
from argparse import Namespace
from importlib import import_module

from convexlib.cli.console import exit_code


def _run(_: Namespace) -> int:
    code: int = import_module("experiments.commands").main()
    return code


if __name__ == "__main__":
    # The imports take seconds, which Ctrl-C is to end in a line as it ends the command.
    sys.exit(exit_code(Namespace(run=_run), "experiments"))
