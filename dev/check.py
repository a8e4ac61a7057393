"""`make check`: run all checks and print the time of each. The exit code is 1 if one failed."""

import argparse
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PYTHON = sys.executable
TYPED = [
    "kernex",
    "operations",
    "foundation",
    "devices",
    "bundles",
    "deployments",
    "kernex_cli",
    "agent",
    "dev",
    "tests",
]
# Settings of a production control plane, for `check --deploy`.
PRODUCTION = {
    "SECRET_KEY": secrets.token_urlsafe(60),
    "DATABASE_URL": "postgresql://kernex_app:unused@127.0.0.1:1/kernex_db",
    "DATABASE_POOL": "0",
    "PUBLIC_URL": "https://fleet.example.com",
    "ALLOWED_HOSTS": "fleet.example.com",
    "TRUSTED_PROXY": "true",
}
CHECKS: list[tuple[str, list[str], dict[str, str]]] = [
    ("ruff", [str(BIN / "ruff"), "check", "."], {}),
    ("ruff format", [str(BIN / "ruff"), "format", "--check", "--quiet", "."], {}),
    ("mypy", [str(BIN / "mypy"), *[argument for package in TYPED for argument in ("-p", package)]], PRODUCTION),
    ("import contracts", [str(BIN / "lint-imports")], PRODUCTION),
    (
        "no missing migrations",
        [PYTHON, "-W", "ignore", "manage.py", "makemigrations", "--check", "--dry-run"],
        PRODUCTION,
    ),
    ("check --deploy", [PYTHON, "manage.py", "check", "--deploy", "--fail-level", "WARNING"], PRODUCTION),
]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make check", description=__doc__)
    parser.add_argument("--long", action="store_true", help="also run the tests that take minutes")
    long = parser.parse_args().long
    tests = [PYTHON, "-m", "pytest", "-n", "2", "-q", *([] if long else ["-m", "not long"])]
    failed = [
        title for title, command, variables in [*CHECKS, ("tests", tests, {})] if not run(title, command, variables)
    ]
    if failed:
        sys.stdout.write(f"Failed: {', '.join(failed)}.\n")
        return 1
    sys.stdout.write("All checks passed.\n")
    return 0


def run(title: str, command: list[str], variables: dict[str, str]) -> bool:
    """Run one check. Show its output if it fails; always show the output of the tests."""
    started = time.monotonic()
    shows_output = title == "tests"
    completed = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **variables}, text=True, check=False,
        stdout=None if shows_output else subprocess.PIPE, stderr=None if shows_output else subprocess.STDOUT,
    )  # fmt: skip
    passed = completed.returncode == 0
    if not passed and completed.stdout:
        sys.stdout.write(completed.stdout)
    sys.stdout.write(f"{'ok    ' if passed else 'FAILED'} {title} ({time.monotonic() - started:.1f} s)\n")
    sys.stdout.flush()
    return passed


if __name__ == "__main__":
    sys.exit(main())
