"""Run the command line of the experiments: `python -m experiments`."""

import sys

if __name__ == "__main__":
    try:
        from experiments.commands import main  # takes seconds, which Ctrl-C is to end in one line
    except KeyboardInterrupt:
        sys.stderr.write("experiments: interrupted\n")
        sys.exit(130)  # as `convexlib.cli.console`, which is not there yet
    sys.exit(main())
