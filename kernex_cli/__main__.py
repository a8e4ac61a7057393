"""Run the `kernex` command as `python -m kernex_cli`."""

import sys

from kernex_cli.main import main

if __name__ == "__main__":
    sys.exit(main())
