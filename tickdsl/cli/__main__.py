import sys

from tickdsl.cli import main

sys.exit(main())
