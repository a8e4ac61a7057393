"""`make run` in a clean clone, as a newcomer runs it: killed, started again, interrupted."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.postgres import free_port
from tests.live import ROOT

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
READY = "Kernex is ready"
# The states of a device deployment that succeeds, in order. A state that ends between two polls is not displayed.
STATES = ["waiting", "offered", "accepted", "downloading", "installing", "checking", "succeeded"]


def processes_of(directory: Path) -> list[str]:
    """Return the command lines of all processes that contain this directory."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(directory) in line:
            lines.append(line)
    return lines


def start(clone: Path, port: int) -> "subprocess.Popen[bytes]":
    with (clone / "output").open("wb") as output:
        return subprocess.Popen(
            ["make", "run", f"PORT={port}", f"VAR={clone / 'var'}"], cwd=clone, start_new_session=True,
            env={name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip


def output_of(clone: Path) -> str:
    return (clone / "output").read_text(errors="replace")


def wait_until_ready(clone: Path, process: "subprocess.Popen[bytes]") -> str:
    while READY not in output_of(clone):
        assert process.poll() is None, output_of(clone)
        time.sleep(0.2)
    return output_of(clone)


def all_stopped(clone: Path) -> bool:
    """Return True if all processes exit within the time that they have to stop."""
    for _ in range(900):
        if not processes_of(clone):
            return True
        time.sleep(0.1)
    return False


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Path]:
    """Yield a clean clone. Processes that still run in it afterwards are killed."""
    clone = tmp_path / "kernex"
    subprocess.run(["git", "clone", "-q", ROOT, clone], check=True)
    yield clone
    subprocess.run(["pkill", "-KILL", "-f", f"{clone}/"], check=False)


def test_a_newcomers_first_runs(clone: Path) -> None:
    port = free_port()
    first = wait_until_ready(clone, process := start(clone, port))
    line = re.search(r"The deployment of vad 1\.0\.0  ([\w → ]+?)  ", first)
    assert line is not None, first
    states = line[1].split(" → ")
    assert (states, states[-1]) == ([state for state in STATES if state in states], "succeeded")
    assert "rolled_back" in first
    assert "refused by the device at its health gate (unhealthy)" in first
    assert "demo-device runs vad 1.0.0, healthy" in first
    password = re.search(r"sign in as operator with (\S+)", first)
    assert password is not None
    file = clone / "var" / "operator-password"
    assert (file.read_text().strip(), file.stat().st_mode & 0o777) == (password[1], 0o600)
    assert not [line for line in processes_of(clone) if password[1] in line]

    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    second = wait_until_ready(clone, process := start(clone, port))
    assert "The deployment of" not in second
    assert "Static files" not in second
    assert password[1] not in second
    assert "demo-device runs vad 1.0.0, healthy" in second

    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) in {0, 2, -signal.SIGINT}
    assert all_stopped(clone), processes_of(clone)

    wait_until_ready(clone, process := start(clone, port))
    runner = [line for line in processes_of(clone) if "dev.run" in line]
    assert runner
    process.terminate()
    while process.poll() is None:
        # make may forward SIGTERM or not. Further signals must not interrupt the runner while it stops its processes.
        subprocess.run(["pkill", "-TERM", "-f", f"dev.run --port {port}"], check=False)
        time.sleep(0.1)
    assert all_stopped(clone), processes_of(clone)
