"""`make bench`: run the short benchmarks, which are the modules tests/performance/bench_*.py."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def benchmarks() -> list[str]:
    """Return the module names of all short benchmarks."""
    return [f"tests.performance.{path.stem}" for path in sorted((ROOT / "tests" / "performance").glob("bench_*.py"))]


def main() -> int:
    failed = []
    for module in benchmarks():
        sys.stdout.write(f"{module}\n")
        sys.stdout.flush()
        if subprocess.run([sys.executable, "-m", module], cwd=ROOT, check=False).returncode:
            failed.append(module)
    if failed:
        sys.stdout.write(f"Failed: {', '.join(failed)}.\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
