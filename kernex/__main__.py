"""`python -m kernex` is the `kernex` command."""

import sys

from kernex.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
