"""A missing program skips a test on a laptop and fails it if CI is set."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.live import ROOT
from tests.tools import ELSEWHERE, PACKAGES, need


@pytest.mark.parametrize("program", ["kernex-no-such-program", *PACKAGES, *ELSEWHERE])
def test_a_missing_program_fails_under_ci_and_skips_elsewhere(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("os.path.exists", lambda _: False)  # for programs with an absolute path
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="is missing"):
        need(program)
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="is missing"):
        need(program)


def test_ci_names_a_program_that_it_cannot_install(tmp_path: Path) -> None:
    """The machine has everything but terraform, and cannot install anything."""
    (tmp_path / "make").write_text("#!/bin/sh\necho must not run\n")
    for path in ("/usr/bin", "/bin", "/usr/sbin", "/sbin"):
        for program in Path(path).iterdir():
            link = tmp_path / program.name
            if program.name not in {"terraform", "apt-get"} and not link.exists():
                link.symlink_to(program)
    for file in tmp_path.iterdir():
        file.chmod(0o755) if not file.is_symlink() else None
    run = subprocess.run(
        ["bash", ROOT / ".ci" / "run"], env={"PATH": str(tmp_path), "HOME": os.environ.get("HOME", "/")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 1
    assert "terraform from HashiCorp" in run.stderr
    assert "must not run" not in run.stdout


def test_ci_checks_every_program_that_tests_need() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert [program for program in (*PACKAGES, *ELSEWHERE) if f":{program}" not in script] == []
