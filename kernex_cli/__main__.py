"""`python -m kernex_cli` is the `kernex` command."""

import sys

from kernex_cli.main import main

if __name__ == "__main__":
    sys.exit(main())
