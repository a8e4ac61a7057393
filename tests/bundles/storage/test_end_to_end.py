"""The whole of it with a bucket: push, deploy, install, through kills, and how many bytes passed the web server."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
import requests

from tests.bundles.publisher import sha256
from tests.bundles.storage.conftest import Place
from tests.bundles.storage.line import Line, line_to
from tests.live import ROOT, Live, running

MIB = 1024 * 1024
ENDED = {"succeeded", "failed", "rolled_back", "rejected", "timed_out", "cancelled"}


@contextmanager
def control_plane(directory: Path, place: Place) -> Iterator[tuple[Live, Line]]:
    """A control plane that keeps its bundles in the place, and the only line to it."""
    with running(directory, **place.environment) as server, line_to(server.port) as line:
        yield server, line


class Machine:
    """One device: a state directory, and an agent that can be killed."""

    def __init__(self, server: Live, line: Line, directory: Path) -> None:
        self.state = directory / "device"
        self.log = directory / "agent.log"
        self.environment = {
            "PATH": os.environ["PATH"], "KERNEX_AGENT_SERVER": line.url, "KERNEX_AGENT_STATE_DIR": str(self.state),
            "KERNEX_AGENT_TOKEN": server.enrolment_token(), "KERNEX_AGENT_DEVICE_TYPE": "edge",
            "KERNEX_AGENT_NAME": "machine", "KERNEX_AGENT_BACKOFF_SECONDS": "1",
            "KERNEX_AGENT_BACKOFF_LIMIT_SECONDS": "1",
        }  # fmt: skip
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "agent", "run"], cwd=ROOT, env=self.environment, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """As if the power went."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)

    def here(self) -> int:
        """How many bytes of blobs have come so far."""
        return sum(path.stat().st_size for path in (self.state / "blobs").glob("*.part"))

    def installed(self, name: str) -> list[Path]:
        return list((self.state / "products").glob(f"**/{name}")) or list(self.state.glob(f"**/{name}"))


@pytest.fixture
def machine_in(tmp_path: Path) -> Iterator[Any]:
    machines: list[Machine] = []

    def make(server: Live, line: Line) -> Machine:
        machines.append(Machine(server, line, tmp_path))
        machines[-1].start()
        return machines[-1]

    yield make
    for machine in machines:
        machine.stop()


def bundle(directory: Path, size: int) -> Path:
    directory.mkdir()
    with (directory / "model.bin").open("wb") as file:
        for number in range(size // MIB):
            file.write(number.to_bytes(8, "big") * (MIB // 8))
    (directory / "run.py").write_text("import time\nwhile True:\n    time.sleep(1)\n")
    (directory / "kernex.json").write_text(json.dumps({"run": {"command": ["python3", "run.py"]}}))
    return directory


def start_push(server: Live, line: Line, directory: Path, version: str = "1") -> "subprocess.Popen[bytes]":
    environment = {"PATH": os.environ["PATH"], "KERNEX_SERVER": line.url, "KERNEX_TOKEN": server.token}
    command = [sys.executable, "-m", "kernex_cli", "push", str(directory), "--name", "big", "--version", version]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)


def deploy(server: Live, version: str = "1") -> str:
    device = wait(lambda: server.call("GET", "/devices").json()["results"])[0]["id"]
    made = server.call("POST", "/deployments", {"bundle": f"big@{version}", "devices": [device], "groups": []})
    assert made.status_code == 201, made.text
    deployment = str(made.json()["id"])
    wait(lambda: server.call("GET", f"/deployments/{deployment}").json()["state"] != "planning")
    return deployment


def row(server: Live, deployment: str) -> dict[str, Any]:
    found: dict[str, Any] = server.call("GET", f"/deployments/{deployment}/devices").json()["results"][0]
    return found


def end_of(server: Live, deployment: str, seconds: float = 120) -> dict[str, Any]:
    wait(lambda: row(server, deployment)["state"] in ENDED, seconds)
    return row(server, deployment)


def wait(what: Any, seconds: float = 120) -> Any:
    gives_up_at = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < gives_up_at, "it did not happen in time"
        time.sleep(0.05)
    return found


def test_no_byte_of_a_bundle_passes_the_web_server(place: Place, tmp_path: Path, machine_in: Any) -> None:
    with control_plane(tmp_path, place) as (server, line):
        machine = machine_in(server, line)
        assert start_push(server, line, bundle(tmp_path / "tree", 24 * MIB)).wait(120) == 0
        deployment = deploy(server)
        assert end_of(server, deployment)["state"] == "succeeded", machine.log.read_text()
        # 24 MiB went up and down; all that the web server saw are calls about them.
        assert place.line.up > 24 * MIB
        assert place.line.down > 2 * 24 * MIB  # hashed, and fetched by the device
        assert line.up + line.down < MIB
        assert place.begun() == []


def test_heartbeats_and_rollouts_outlive_an_outage(place: Place, tmp_path: Path, machine_in: Any) -> None:
    """Storage goes in the middle of the download and comes back: heartbeats go on, then the installation does."""
    with control_plane(tmp_path, place) as (server, line):
        machine = machine_in(server, line)
        assert start_push(server, line, bundle(tmp_path / "tree", 24 * MIB)).wait(120) == 0
        place.line.cut_after(8 * MIB)
        deployment = deploy(server)
        wait(lambda: place.line.is_cut)
        device = server.call("GET", "/devices").json()["results"][0]
        seen = device["last_heartbeat_at"]
        wait(lambda: server.call("GET", f"/devices/{device['id']}").json()["last_heartbeat_at"] > seen)
        assert row(server, deployment)["state"] not in ENDED
        here = machine.here()
        assert here > 4 * MIB
        down = place.line.down
        place.line.mend()
        assert end_of(server, deployment)["state"] == "succeeded", machine.log.read_text()
        # It went on where it was cut.
        assert place.line.down - down < 24 * MIB - here + 2 * MIB


def test_storage_that_hangs_stops_no_heartbeat(place: Place, tmp_path: Path, machine_in: Any) -> None:
    """More publishers ask at once than the web server has threads."""
    with control_plane(tmp_path, place) as (server, line):
        machine_in(server, line)
        device = wait(lambda: server.call("GET", "/devices").json()["results"])[0]["id"]
        place.line.block()

        def publish(number: int) -> None:
            """Those at whose time nobody had asked the storage yet may begin; then all are told to wait."""
            wait(lambda: server.call("POST", "/uploads", {"sha256": token_hex(32), "size": 5}).status_code == 503, 60)
            told.append(number)

        told: list[int] = []
        publishers = [threading.Thread(target=publish, args=[number]) for number in range(16)]
        for publisher in publishers:
            publisher.start()
        for _ in range(3):
            seen = server.call("GET", f"/devices/{device}").json()["last_heartbeat_at"]
            wait(lambda seen=seen: server.call("GET", f"/devices/{device}").json()["last_heartbeat_at"] != seen, 20)
        for publisher in publishers:
            publisher.join()
        assert sorted(told) == list(range(16))
        health = requests.get(f"{server.url}/health", timeout=10)
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
        assert server.call("POST", "/uploads", {"sha256": "f" * 64, "size": 5}).headers["Retry-After"] == "5"
        place.line.drop()
        place.line.mend()
        wait(lambda: server.call("POST", "/uploads", {"sha256": "f" * 64, "size": 5}).status_code == 201, 30)


def flip(content: bytes) -> bytes:
    return content[:-5] + bytes([content[-5] ^ 1]) + content[-4:]


DAMAGES: dict[str, tuple[Callable[[bytes], bytes] | None, str]] = {
    "missing": (None, "download_failed"),
    "truncated": (lambda content: content[: len(content) // 2], "bad_blob"),
    "longer": (lambda content: content + b"more", "bad_blob"),
    "flipped": (flip, "bad_blob"),
    "swapped": (lambda content: b"another", "bad_blob"),
}


@pytest.mark.long
def test_what_is_wrong_in_the_bucket_is_never_installed(place: Place, tmp_path: Path, machine_in: Any) -> None:
    with control_plane(tmp_path, place) as (server, line):
        machine = machine_in(server, line)
        for version, (damage, reason) in DAMAGES.items():
            tree = bundle(tmp_path / version, 2 * MIB)
            content = version.encode() + (tree / "model.bin").read_bytes()
            (tree / "model.bin").write_bytes(content)
            assert start_push(server, line, tree, version).wait(120) == 0
            key = f"blobs/{sha256(content)[:2]}/{sha256(content)}"
            if damage is None:
                place.client.delete_object(Bucket=place.name, Key=key)
            else:
                place.put(key, damage(content))
            ended = end_of(server, deploy(server, version))
            assert (ended["state"], ended["reason_code"]) == ("failed", reason), machine.log.read_text()
            assert not machine.installed("model.bin")
        place.put(key, content)
        assert end_of(server, deploy(server, version))["state"] == "succeeded", machine.log.read_text()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_200_mb_through_kills_of_all(place: Place, tmp_path: Path, machine_in: Any) -> None:
    with control_plane(tmp_path, place) as (server, line):
        machine = machine_in(server, line)
        tree = bundle(tmp_path / "tree", 200 * MIB)

        pushing = start_push(server, line, tree)
        wait(lambda: place.line.up > 60 * MIB)
        pushing.kill()
        pushing.wait()
        up = place.line.up
        server.kill_web()
        server.start_web()
        pushing = start_push(server, line, tree)
        wait(lambda: place.line.up > up + 40 * MIB)
        place.line.drop()
        assert pushing.wait(300) == 0
        # 16 MiB parts: of what was there, at most the one under way was sent twice, each time.
        assert place.line.up < 200 * MIB + 3 * 17 * MIB

        deployment = deploy(server)
        for portion in (40, 90, 140):
            wait(lambda portion=portion: machine.here() > portion * MIB)
            machine.kill()
            here, down = machine.here(), place.line.down
            machine.start()
            wait(lambda here=here: machine.here() > here + 10 * MIB or machine.installed("model.bin"))
            assert place.line.down - down < 60 * MIB  # it went on, not from the beginning
        assert end_of(server, deployment, 300)["state"] == "succeeded", machine.log.read_text()
        (model,) = {path.resolve() for path in machine.installed("model.bin")}
        assert model.read_bytes() == (tree / "model.bin").read_bytes()
        assert line.up + line.down < 3 * MIB
