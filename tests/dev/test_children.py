"""What a killed run left behind is found and ended, and nothing else."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dev.children import ChildFailed, Children, started_at
from tests.live import ROOT

SLEEP = ["sleep", "300"]
# Deaf to SIGTERM, which the kernel sends when the runner dies.
RUNNER = """
import sys, time
from pathlib import Path
from dev.children import Children
children = Children(Path(sys.argv[1]))
children.start("stubborn", ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"], {"PATH": "/bin:/usr/bin"})
time.sleep(300)
"""


def test_the_next_run_ends_what_a_killed_one_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = subprocess.Popen([sys.executable, "-c", RUNNER, tmp_path], cwd=ROOT)
    later = Children(tmp_path)
    while not (later.record.exists() and later.tail("stubborn")):
        time.sleep(0.05)
    child = json.loads(later.record.read_text())["stubborn"]["pid"]
    runner.kill()
    runner.wait()
    assert started_at(child)
    monkeypatch.setattr("dev.children.GRACE_SECONDS", 0.5)
    assert later.end_left_over() == 1
    while started_at(child):
        time.sleep(0.05)
    assert not later.record.exists()


def test_another_program_with_that_number_is_let_be(tmp_path: Path) -> None:
    somebody = subprocess.Popen(SLEEP)
    try:
        record = {"web": {"pid": somebody.pid, "started_at": "1"}}
        (tmp_path / "processes.json").write_text(json.dumps(record))
        assert Children(tmp_path).end_left_over() == 0
        assert somebody.poll() is None
    finally:
        somebody.kill()
        somebody.wait()


def test_a_damaged_record_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "processes.json").write_text("{")
    assert Children(tmp_path).end_left_over() == 0


def test_a_process_that_ended_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    children = Children(tmp_path)
    children.start("web", ["sh", "-c", "echo no luck; exit 3"], {"PATH": "/bin:/usr/bin"}).wait()
    with pytest.raises(ChildFailed, match=r"(?s)web ended with 3.*no luck"):
        children.check()
    children.stop()


def test_stopping_leaves_nothing(tmp_path: Path) -> None:
    children = Children(tmp_path)
    process = children.start("web", SLEEP, {})
    children.stop()
    assert process.returncode == -15
    assert started_at(process.pid) == ""
    assert not children.record.exists()
