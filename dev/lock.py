"""`make lock`: compile each requirements.in into requirements.txt with pinned versions and hashes.

The lock files contain no paths and no package indexes of this machine.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The development requirements come first. Their versions constrain the others.
FILES = ["dev/requirements", "requirements", "agent/requirements", "demo/requirements", "deploy/build", "deploy/fast"]
COMMAND = [
    "pip", "compile", "--quiet", "--universal", "--generate-hashes", "--python-version", "3.11",
]  # fmt: skip


def main() -> int:
    for name in FILES:
        constraints = [] if name == FILES[0] else ["-c", f"{FILES[0]}.txt"]
        command = [sys.executable, "-m", "uv", *COMMAND, f"{name}.in", "-o", f"{name}.txt", *constraints]
        code = subprocess.run(command, cwd=ROOT, check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
