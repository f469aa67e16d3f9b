"""Run the command line: `python -m convexlib`."""

import sys

from convexlib.cli import main

if __name__ == "__main__":
    sys.exit(main())
