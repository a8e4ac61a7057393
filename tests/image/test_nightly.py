"""deploy/nightly: when it runs its command, what it does when the command fails, and how it stops."""

import importlib.machinery
import importlib.util
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from pathlib import Path
from types import ModuleType

import pytest

from tests.live import ROOT

NIGHTLY = ROOT / "deploy" / "nightly"


@pytest.fixture
def nightly() -> ModuleType:
    """The program as a module."""
    loader = importlib.machinery.SourceFileLoader("nightly", str(NIGHTLY))
    spec = importlib.util.spec_from_loader("nightly", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A copy of nightly next to an entry point that records its arguments, and sleeps if the first is `slow`."""
    copy = tmp_path / "deploy" / "nightly"
    copy.parent.mkdir()
    copy.write_text(NIGHTLY.read_text())
    entry = copy.with_name("entry")
    entry.write_text(f'#!/bin/sh\necho "$@" "$TMPDIR" >>{tmp_path}/arguments\n[ "$1" != slow ] || exec sleep 60\n')
    entry.chmod(0o755)
    return copy


def start(program: Path, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, program, *arguments], stderr=subprocess.PIPE, text=True)


def in_seconds(seconds: int) -> str:
    return f"{datetime.now(UTC) + timedelta(seconds=seconds):%H:%M:%S}"


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("2026-01-31T02:00:00", "2026-01-31T03:17:00"),
        ("2026-01-31T03:17:00", "2026-02-01T03:17:00"),
        ("2026-12-31T23:59:59", "2027-01-01T03:17:00"),
    ],
)
def test_the_next_time_is_today_or_tomorrow(nightly: ModuleType, now: str, expected: str) -> None:
    moment = datetime.fromisoformat(now).replace(tzinfo=UTC)
    assert nightly.next_time(time_of_day(3, 17), moment) == datetime.fromisoformat(expected).replace(tzinfo=UTC)


def test_it_runs_the_command_at_that_time(installed: Path, tmp_path: Path) -> None:
    arguments = tmp_path / "arguments"
    with start(installed, in_seconds(2), "backup", "/backups", "--blobs") as process:
        wait_for(arguments)
        time.sleep(0.2)
        process.terminate()
    assert process.returncode == 0
    written, _, scratch = arguments.read_text().strip().rpartition(" ")
    assert written == "backup /backups --blobs"
    assert scratch.endswith("/kernex-nightly")
    assert not Path(scratch).exists()


def test_a_failure_is_repeated_twice(nightly: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    entry = tmp_path / "entry"
    entry.write_text(f"#!/bin/sh\necho run >>{tmp_path}/runs\nexit 1\n")
    entry.chmod(0o755)
    monkeypatch.setattr(nightly, "ENTRY", entry)
    monkeypatch.setattr(nightly, "RETRY_SECONDS", 0)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    nightly.run_with_retries(["backup"])
    assert (tmp_path / "runs").read_text().split() == ["run"] * 3


def test_files_of_a_killed_run_are_removed(
    nightly: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    left = tmp_path / "kernex-nightly" / "database.dump"
    left.parent.mkdir()
    left.touch()
    entry = tmp_path / "entry"
    entry.write_text(f"#!/bin/sh\ntest ! -e {left}\n")
    entry.chmod(0o755)
    monkeypatch.setattr(nightly, "ENTRY", entry)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert nightly.run(["backup"]) == 0


@pytest.mark.parametrize("arguments", [(), ("03:17",), ("25:00", "backup"), ("backup", "03:17")])
def test_wrong_arguments_are_refused_with_an_example(arguments: tuple[str, ...]) -> None:
    with start(NIGHTLY, *arguments) as process:
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "nightly 03:17 backup" in errors


def test_sigterm_stops_it_while_it_waits(installed: Path) -> None:
    with start(installed, in_seconds(7200), "backup") as process:
        assert process.stderr is not None
        assert "next backup at" in process.stderr.readline()
        process.terminate()
    assert process.returncode == 0


def test_sigterm_stops_the_run(installed: Path, tmp_path: Path) -> None:
    with start(installed, in_seconds(2), "slow") as process:
        wait_for(tmp_path / "arguments")
        began = time.monotonic()
        process.terminate()
    assert process.returncode == 0
    assert time.monotonic() - began < 30
