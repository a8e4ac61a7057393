"""`make bench` works on any machine, also without gunicorn's C parser."""

import subprocess
import sys

from dev.bench import benchmarks
from tests.live import ROOT


def test_the_heartbeat_benchmark_prints_both_views_and_their_ratio() -> None:
    command = [sys.executable, "-m", "tests.performance.bench_heartbeat", "--heartbeats", "240", "--devices", "24"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert [line.split()[0] for line in ran.stdout.splitlines()[-3:]] == ["signed", "bare", "ratio"]


def test_every_benchmark_runs_without_arguments() -> None:
    assert "tests.performance.bench_heartbeat" in benchmarks()
    for module in benchmarks():
        shown = subprocess.run([sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, check=False)
        assert shown.returncode == 0, module
