"""`kernex push` against a real control plane: interruption, resumption and memory."""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.kernex_cli.conftest import Kernex
from tests.live import Live, running

MIB = 1024 * 1024
# How much more memory a push may need than `kernex --help`.
EXTRA_MEMORY = 50 * MIB


def create_tree(directory: Path) -> Path:
    (directory / "model").mkdir(parents=True)
    (directory / "model" / "vad.onnx").write_bytes(os.urandom(5 * MIB))
    (directory / "runner.py").write_text("print('hello')\n")
    (directory / "empty").touch()
    (directory / "prepare").write_text("#!/bin/sh\n")
    (directory / "prepare").chmod(0o755)
    (directory / "kernex.toml").write_text('device_types = ["edge"]\nrun = { command = ["python3", "runner.py"] }\n')
    return directory


def big_file(path: Path, size: int) -> str:
    """Create a file whose parts all differ. Return its sha256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for number in range(size // MIB):
            block = number.to_bytes(8, "big") * (MIB // 8)
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def start(server: Live, *arguments: object) -> "subprocess.Popen[bytes]":
    environment = {"PATH": os.environ["PATH"], "KERNEX_SERVER": server.url, "KERNEX_TOKEN": server.token}
    command = [sys.executable, "-m", "kernex_cli", *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)


MEASURED = """
import re, sys
from pathlib import Path
from kernex_cli.main import main
code = main(sys.argv[2:])
Path(sys.argv[1]).write_text(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
sys.exit(code)
"""


def peak_memory(server: Live, report: Path, *arguments: object) -> int:
    """Run `kernex` and return its peak resident memory in bytes."""
    environment = {"PATH": os.environ["PATH"], "KERNEX_SERVER": server.url, "KERNEX_TOKEN": server.token}
    command = [sys.executable, "-c", MEASURED, str(report), *map(str, arguments)]
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return int(report.read_text()) * 1024


def stored_parts(server: Live, sha256: str, size: int) -> list[Any]:
    upload: dict[str, Any] = server.call("POST", "/uploads", {"sha256": sha256, "size": size}).json()
    return list(upload["parts"])


def wait_for_parts(server: Live, sha256: str, size: int, count: int) -> None:
    deadline = time.monotonic() + 60
    while len(stored_parts(server, sha256, size)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_push_creates_a_ready_bundle(at_live: Kernex, tmp_path: Path) -> None:
    tree = create_tree(tmp_path / "tree")
    pushed = at_live("push", tree, "--name", "first", "--version", "1.0.0", "--json", "--timeout", "60s")
    assert pushed.code == 0, pushed.err
    assert pushed.document["state"] == "ready"
    assert pushed.document["device_types"] == ["edge"]
    again = at_live("push", tree, "--name", "first", "--version", "1.0.0", "--json")
    assert (again.code, again.document["bytes_sent"]) == (0, 0)
    other = at_live("push", tree, "--name", "first", "--version", "1.0.1", "--json", "--timeout", "60s")
    assert (other.code, other.document["state"], other.document["bytes_sent"]) == (0, "ready", 0)
    listed = at_live("bundles", "--name", "first", "--json").document["results"]
    assert [bundle["version"] for bundle in listed] == ["1.0.1", "1.0.0"]
    (tree / "runner.py").write_text("print('else')\n")
    assert at_live("push", tree, "--name", "first", "--version", "1.0.0").code == 4


def test_a_viewer_cannot_push(at_live: Kernex, live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNEX_TOKEN", live.tokens["viewer"])
    outcome = at_live("push", create_tree(tmp_path / "tree"), "--name", "viewed", "--version", "1")
    assert outcome.code == 3
    assert "role" in outcome.err


def test_a_killed_push_is_resumed(at_live: Kernex, live: Live, tmp_path: Path) -> None:
    size = 256 * MIB
    (tmp_path / "tree").mkdir()
    sha256 = big_file(tmp_path / "tree" / "big", size)
    arguments = ("push", tmp_path / "tree", "--name", "killed", "--version", "1", "--no-publish")
    process = start(live, *arguments)
    wait_for_parts(live, sha256, size, 2)
    process.kill()
    assert process.wait() == -9
    stored_size = sum(part["size"] for part in stored_parts(live, sha256, size))
    assert stored_size < size
    outcome = at_live(*arguments, "--json")
    assert outcome.code == 0, outcome.err
    # A part in transit when the process died can still have arrived.
    assert size - stored_size - 16 * MIB <= outcome.document["bytes_sent"] <= size - stored_size


def test_a_push_continues_after_the_server_was_killed(tmp_path: Path) -> None:
    size = 256 * MIB
    (tmp_path / "tree").mkdir()
    (tmp_path / "server").mkdir()
    sha256 = big_file(tmp_path / "tree" / "big", size)
    with running(tmp_path / "server") as server:
        process = start(server, "push", tmp_path / "tree", "--name", "cut", "--version", "1", "--no-publish")
        wait_for_parts(server, sha256, size, 2)
        server.kill_web()
        assert process.poll() is None
        server.start_web()
        assert process.wait(60) == 0
        assert server.call("POST", "/uploads", {"sha256": sha256, "size": size}).json()["state"] != "open"


@pytest.mark.parametrize("size", [256 * MIB, pytest.param(2048 * MIB, marks=pytest.mark.long)])
def test_a_push_needs_little_memory(live: Live, tmp_path: Path, size: int) -> None:
    (tmp_path / "tree").mkdir()
    big_file(tmp_path / "tree" / "big", size)
    for number in range(40):
        (tmp_path / "tree" / f"small-{number}").write_bytes(os.urandom(4 * MIB))
    idle = peak_memory(live, tmp_path / "report", "--help")
    arguments = ("--name", f"big-{size}", "--version", "1", "--no-publish")
    busy = peak_memory(live, tmp_path / "report", "push", tmp_path / "tree", *arguments)
    assert busy - idle < EXTRA_MEMORY
