"""`python -m tickdsl` is `tickdsl`."""

import sys

# `python -m` puts the working folder first: a file there, say `selectors.py`, would run in place of Python's own.
if not sys.flags.safe_path:
    del sys.path[0]

from tickdsl.cli import main

if __name__ == "__main__":
    sys.exit(main())
