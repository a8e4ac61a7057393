"""The workflows run the same line as people, and are what their schema allows."""

import subprocess
import sys
from pathlib import Path

from tests.live import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
BIN = Path(sys.executable).parent


def test_they_fit_their_schema() -> None:
    command = [str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.github-workflows", *map(str, WORKFLOWS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_they_are_tidy() -> None:
    done = subprocess.run(
        [BIN / "yamllint", "--strict", *WORKFLOWS], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_they_run_the_same_line_as_people() -> None:
    assert WORKFLOWS
    assert [path.name for path in WORKFLOWS if "bash .ci/run" not in path.read_text()] == []
