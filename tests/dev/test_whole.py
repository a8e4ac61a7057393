"""A clean clone and `make run`, as a newcomer does it: killed, begun again, interrupted."""

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


def processes_of(place: Path) -> list[str]:
    """The command lines of all processes that name this directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(place) in line:
            found.append(line)
    return found


def begin(clone: Path, port: int) -> "subprocess.Popen[bytes]":
    with (clone / "said").open("wb") as said:
        return subprocess.Popen(
            ["make", "run", f"PORT={port}", f"VAR={clone / 'var'}"], cwd=clone, start_new_session=True,
            env={name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            stdin=subprocess.DEVNULL, stdout=said, stderr=said,
        )  # fmt: skip


def said(clone: Path) -> str:
    return (clone / "said").read_text(errors="replace")


def until_ready(clone: Path, process: "subprocess.Popen[bytes]") -> str:
    while READY not in said(clone):
        assert process.poll() is None, said(clone)
        time.sleep(0.2)
    return said(clone)


def gone(clone: Path) -> bool:
    """Within the time that processes are given to end."""
    for _ in range(300):
        if not processes_of(clone):
            return True
        time.sleep(0.1)
    return False


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Path]:
    """A clean clone. Whatever still runs in it afterwards is ended."""
    clone = tmp_path / "kernex"
    subprocess.run(["git", "clone", "-q", ROOT, clone], check=True)
    yield clone
    subprocess.run(["pkill", "-KILL", "-f", f"{clone}/"], check=False)


def test_a_newcomers_way(clone: Path) -> None:
    port = free_port()
    first = until_ready(clone, process := begin(clone, port))
    shown = re.search(r"waiting → (\w+ → )*succeeded", first)  # what lasts shorter than a look is not seen
    assert shown, first
    assert "rolled_back" in first
    assert "refused by the device at its health gate (unhealthy)" in first
    assert "demo-device runs vad 1.0.0, healthy" in first
    password = re.search(r"log in as operator with (\S+)", first)
    assert password is not None
    kept = clone / "var" / "operator-password"
    assert (kept.read_text().strip(), kept.stat().st_mode & 0o777) == (password[1], 0o600)
    assert not [line for line in processes_of(clone) if password[1] in line]

    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    second = until_ready(clone, process := begin(clone, port))
    assert "Its deployment" not in second
    assert "Static files" not in second
    assert password[1] not in second
    assert "demo-device runs vad 1.0.0, healthy" in second

    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) in {0, 2, -signal.SIGINT}
    assert gone(clone), processes_of(clone)

    until_ready(clone, process := begin(clone, port))
    runner = [line for line in processes_of(clone) if "dev.run" in line]
    assert runner
    process.terminate()  # `make` passes nothing on: the runner is told by itself
    subprocess.run(["pkill", "-TERM", "-f", f"dev.run --port {port}"], check=False)
    process.wait(60)
    assert gone(clone), processes_of(clone)
