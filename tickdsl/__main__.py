"""`python -m tickdsl` is `tickdsl`."""

import sys

from tickdsl.cli import main

if __name__ == "__main__":
    sys.exit(main())
