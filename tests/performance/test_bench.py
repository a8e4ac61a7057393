"""`make bench` is a command that anyone can run, also where no C parser is installed."""

import subprocess
import sys

from tests.live import ROOT


def test_it_prints_both_views_and_their_ratio() -> None:
    command = [sys.executable, "-m", "tests.performance.bench_heartbeat", "--heartbeats", "240", "--devices", "24"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert [line.split()[0] for line in ran.stdout.splitlines()[-3:]] == ["signed", "bare", "ratio"]
