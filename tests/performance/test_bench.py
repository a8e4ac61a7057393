"""`make bench` works on any machine, including one without gunicorn's C parser."""

import subprocess
import sys

import pytest

from dev.bench import benchmarks
from tests.live import ROOT


@pytest.mark.long
def test_the_heartbeat_benchmark_prints_both_views_and_their_ratio() -> None:
    command = [sys.executable, "-m", "tests.performance.bench_heartbeat", "--heartbeats", "240", "--devices", "24"]
    completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert completed.returncode == 0, completed.stderr
    assert [line.split()[0] for line in completed.stdout.splitlines()[-3:]] == ["signed", "bare", "ratio"]


def test_every_benchmark_runs_without_arguments() -> None:
    assert "tests.performance.bench_heartbeat" in benchmarks()
    for module in benchmarks():
        completed = subprocess.run([sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, check=False)
        assert completed.returncode == 0, module
