"""The processes of a killed run are found and stopped, and no others."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dev.child_processes import ChildFailed, ChildProcesses, started_at
from tests.live import ROOT

SLEEP = ["sleep", "300"]
# Ignores SIGTERM, which the kernel sends when the runner dies.
RUNNER = """
import sys, time
from pathlib import Path
from dev.child_processes import ChildProcesses
children = ChildProcesses(Path(sys.argv[1]))
children.start("stubborn", ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"], {"PATH": "/bin:/usr/bin"})
time.sleep(300)
"""


def test_the_next_run_stops_the_processes_of_a_killed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = subprocess.Popen([sys.executable, "-c", RUNNER, tmp_path], cwd=ROOT)
    later = ChildProcesses(tmp_path)
    while not (later.record.exists() and later.tail("stubborn")):
        time.sleep(0.05)
    child = json.loads(later.record.read_text())["stubborn"]["pid"]
    runner.kill()
    runner.wait()
    assert started_at(child)
    monkeypatch.setattr("dev.child_processes.GRACE_SECONDS", 0.5)
    assert later.stop_leftovers() == 1
    while started_at(child):
        time.sleep(0.05)
    assert not later.record.exists()


def test_another_program_with_that_process_id_is_left_alone(tmp_path: Path) -> None:
    other = subprocess.Popen(SLEEP)
    try:
        record = {"web": {"pid": other.pid, "started_at": "1"}}
        (tmp_path / "processes.json").write_text(json.dumps(record))
        assert ChildProcesses(tmp_path).stop_leftovers() == 0
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_damaged_record_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "processes.json").write_text("{")
    assert ChildProcesses(tmp_path).stop_leftovers() == 0


def test_a_process_that_exited_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    children = ChildProcesses(tmp_path)
    children.start("web", ["sh", "-c", "echo no luck; exit 3"], {"PATH": "/bin:/usr/bin"}).wait()
    with pytest.raises(ChildFailed, match=r"(?s)web exited with 3.*no luck"):
        children.check()
    children.stop()


def test_stopping_leaves_no_process(tmp_path: Path) -> None:
    children = ChildProcesses(tmp_path)
    process = children.start("web", SLEEP, {})
    children.stop()
    assert process.returncode == -15
    assert started_at(process.pid) == ""
    assert not children.record.exists()
