"""If `make run` cannot start, it prints one sentence that says what to do, and changes nothing."""

import fcntl
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live import ROOT


def run(var: Path, port: int = 8399) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dev.run", "--port", str(port), "--var", str(var)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def assert_refused(completed: subprocess.CompletedProcess[str], *texts: str) -> None:
    output = completed.stdout + completed.stderr
    assert completed.returncode == 1, output
    assert "Traceback" not in output
    assert len(output.strip().splitlines()) == 1, output
    assert [text for text in texts if text not in output] == []


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert_refused(run(tmp_path, port), f"Port {port} is in use", f"make run PORT={port + 10}")


def test_another_run_in_the_same_directory(tmp_path: Path) -> None:
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert_refused(run(tmp_path), "Another `make run` uses", "VAR=")


@pytest.mark.parametrize("var", ["file", "file/below", "\0"])
def test_a_path_that_is_not_a_directory(tmp_path: Path, var: str) -> None:
    (tmp_path / "file").touch()
    if var == "\0":
        var = "n" * 300
    assert_refused(run(tmp_path / var), "cannot be written", "VAR=")


def test_damaged_secrets(tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text("{")
    assert_refused(run(tmp_path), "secrets.json is damaged", "restore")
    assert (tmp_path / "secrets.json").read_text() == "{"


def test_missing_secrets_of_existing_data(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    assert_refused(run(tmp_path), "secrets.json is missing", "restore it")


def test_a_full_disk(small_disk: Path) -> None:
    assert_refused(run(small_disk / "var"), "too full", "300 MB")


def bootstrap(*lines: str, arguments: tuple[str, ...] = (), **variables: str) -> subprocess.CompletedProcess[str]:
    """Run dev/bootstrap.py in a Python process, after `lines` of code."""
    source = (ROOT / "dev/bootstrap.py").read_text()
    code = "\n".join([*lines, f"exec(compile({source!r}, 'bootstrap.py', 'exec'), {{'__name__': '__main__'}})"])
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={"PATH": "/nowhere", **variables}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_an_old_python() -> None:
    completed = bootstrap("import sys", "sys.version_info = (3, 10, 4, 'final', 0)")
    assert completed.returncode == 1
    assert completed.stderr.strip() == (
        "Kernex needs Python 3.11 or newer; this is 3.10. Install it and run: make run PYTHON=python3.12"
    )


def test_a_python_without_venv(tmp_path: Path) -> None:
    (tmp_path / "ensurepip.py").write_text("raise ImportError('No module named ensurepip')")
    (tmp_path / "requirements.txt").write_text("nothing==1\n")
    arguments = (str(tmp_path / "environment"), str(tmp_path / "requirements.txt"))
    completed = bootstrap(PYTHONPATH=str(tmp_path), arguments=arguments)
    assert completed.returncode == 1
    assert "apt install python3-venv" in completed.stderr
    assert "Traceback" not in completed.stderr


def test_requirements_that_cannot_be_installed(tmp_path: Path) -> None:
    """The index is unreachable, or a package is not the pinned one."""
    (tmp_path / "requirements.txt").write_text("kernex-no-such-package==1 --hash=sha256:" + "0" * 64 + "\n")
    arguments = (str(tmp_path / "environment"), str(tmp_path / "requirements.txt"))
    completed = bootstrap(
        arguments=arguments, PIP_INDEX_URL="http://127.0.0.1:9/", PIP_RETRIES="0", PATH=os.environ["PATH"]
    )
    assert completed.returncode == 1
    assert re.search("pip could not install the requirements", completed.stderr)
    assert "Traceback" not in completed.stderr
