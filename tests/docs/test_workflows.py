"""The CI workflows are valid and run the same command as developers."""

import subprocess
import sys
from pathlib import Path

from tests.live import ROOT

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
BIN = Path(sys.executable).parent


def test_workflows_match_their_schema() -> None:
    command = [str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.github-workflows", *map(str, WORKFLOWS)]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stdout + completed.stderr


def test_workflows_pass_yamllint() -> None:
    completed = subprocess.run(
        [BIN / "yamllint", "--strict", *WORKFLOWS], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert completed.returncode == 0, completed.stdout


def test_workflows_run_the_same_command_as_developers() -> None:
    assert WORKFLOWS
    assert [path.name for path in WORKFLOWS if "bash .ci/run" not in path.read_text()] == []
