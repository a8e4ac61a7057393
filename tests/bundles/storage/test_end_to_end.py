"""Push, deploy and install with a bucket, through kills; and how many bytes pass through the web server."""

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
from tests.bundles.storage.conftest import RemoteBucket
from tests.bundles.storage.tcp_proxy import TcpProxy, proxy_to
from tests.live import ROOT, Live, running

MIB = 1024 * 1024
ENDED = {"succeeded", "failed", "rolled_back", "rejected", "timed_out", "cancelled"}


@contextmanager
def control_plane(directory: Path, remote_bucket: RemoteBucket) -> Iterator[tuple[Live, TcpProxy]]:
    """Run a control plane that keeps its bundles in the bucket. Yield it and the only proxy to it."""
    with running(directory, **remote_bucket.environment) as server, proxy_to(server.port) as proxy:
        yield server, proxy


class Machine:
    """One device: a state directory, and an agent that can be killed."""

    def __init__(self, server: Live, proxy: TcpProxy, directory: Path) -> None:
        self.state = directory / "device"
        self.log = directory / "agent.log"
        self.environment = {
            "PATH": os.environ["PATH"], "KERNEX_AGENT_SERVER": proxy.url, "KERNEX_AGENT_STATE_DIR": str(self.state),
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
        """Kill the agent, as in a power cut."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(30)

    def received_size(self) -> int:
        """Return how many bytes of blobs were received so far."""
        return sum(path.stat().st_size for path in (self.state / "blobs").glob("*.part"))

    def installed(self, name: str) -> list[Path]:
        return list((self.state / "products").glob(f"**/{name}")) or list(self.state.glob(f"**/{name}"))


@pytest.fixture
def machine_in(tmp_path: Path) -> Iterator[Any]:
    machines: list[Machine] = []

    def make(server: Live, proxy: TcpProxy) -> Machine:
        machines.append(Machine(server, proxy, tmp_path))
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


def start_push(server: Live, proxy: TcpProxy, directory: Path, version: str = "1") -> "subprocess.Popen[bytes]":
    environment = {"PATH": os.environ["PATH"], "KERNEX_SERVER": proxy.url, "KERNEX_TOKEN": server.token}
    command = [sys.executable, "-m", "kernex_cli", "push", str(directory), "--name", "big", "--version", version]
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)


def deploy(server: Live, version: str = "1") -> str:
    device = wait(lambda: server.call("GET", "/devices").json()["results"])[0]["id"]
    created = server.call("POST", "/deployments", {"bundle": f"big@{version}", "devices": [device], "groups": []})
    assert created.status_code == 201, created.text
    deployment = str(created.json()["id"])
    wait(lambda: server.call("GET", f"/deployments/{deployment}").json()["state"] != "planning")
    return deployment


def device_deployment_of(server: Live, deployment: str) -> dict[str, Any]:
    device_deployment: dict[str, Any] = server.call("GET", f"/deployments/{deployment}/devices").json()["results"][0]
    return device_deployment


def end_of(server: Live, deployment: str, seconds: float = 120) -> dict[str, Any]:
    wait(lambda: device_deployment_of(server, deployment)["state"] in ENDED, seconds)
    return device_deployment_of(server, deployment)


def wait(condition: Any, seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "the condition did not become true in time"
        time.sleep(0.05)
    return result


def test_no_byte_of_a_bundle_passes_the_web_server(
    remote_bucket: RemoteBucket, tmp_path: Path, machine_in: Any
) -> None:
    with control_plane(tmp_path, remote_bucket) as (server, proxy):
        machine = machine_in(server, proxy)
        assert start_push(server, proxy, bundle(tmp_path / "tree", 24 * MIB)).wait(120) == 0
        deployment = deploy(server)
        assert end_of(server, deployment)["state"] == "succeeded", machine.log.read_text()
        # The 24 MiB went to and from the bucket; the web server got only API calls.
        assert remote_bucket.proxy.up > 24 * MIB
        assert remote_bucket.proxy.down > 2 * 24 * MIB  # hashed, and fetched by the device
        assert proxy.up + proxy.down < MIB
        assert remote_bucket.unfinished_uploads() == []


def test_heartbeats_and_rollouts_outlive_an_outage(
    remote_bucket: RemoteBucket, tmp_path: Path, machine_in: Any
) -> None:
    """The bucket becomes unreachable during the download: heartbeats continue, and later the download does."""
    with control_plane(tmp_path, remote_bucket) as (server, proxy):
        machine = machine_in(server, proxy)
        assert start_push(server, proxy, bundle(tmp_path / "tree", 24 * MIB)).wait(120) == 0
        remote_bucket.proxy.cut_after(8 * MIB)
        deployment = deploy(server)
        wait(lambda: remote_bucket.proxy.is_cut)
        device = server.call("GET", "/devices").json()["results"][0]
        last_seen = device["last_heartbeat_at"]
        wait(lambda: server.call("GET", f"/devices/{device['id']}").json()["last_heartbeat_at"] > last_seen)
        assert device_deployment_of(server, deployment)["state"] not in ENDED
        received = machine.received_size()
        assert received > 4 * MIB
        down = remote_bucket.proxy.down
        remote_bucket.proxy.restore()
        assert end_of(server, deployment)["state"] == "succeeded", machine.log.read_text()
        # The download was resumed.
        assert remote_bucket.proxy.down - down < 24 * MIB - received + 2 * MIB


@pytest.mark.long
def test_storage_that_hangs_stops_no_heartbeat(remote_bucket: RemoteBucket, tmp_path: Path, machine_in: Any) -> None:
    """There are more concurrent publishers than the web server has threads."""
    with control_plane(tmp_path, remote_bucket) as (server, proxy):
        machine_in(server, proxy)
        device = wait(lambda: server.call("GET", "/devices").json()["results"])[0]["id"]
        remote_bucket.proxy.block()

        def publish(number: int) -> None:
            """Start uploads until one gets 503. Some are accepted before the outage is detected."""
            wait(lambda: server.call("POST", "/uploads", {"sha256": token_hex(32), "size": 5}).status_code == 503, 60)
            refused.append(number)

        refused: list[int] = []
        publishers = [threading.Thread(target=publish, args=[number]) for number in range(16)]
        for publisher in publishers:
            publisher.start()
        for _ in range(3):
            last_seen = server.call("GET", f"/devices/{device}").json()["last_heartbeat_at"]
            wait(
                lambda last_seen=last_seen: (
                    server.call("GET", f"/devices/{device}").json()["last_heartbeat_at"] != last_seen
                ),
                20,
            )
        for publisher in publishers:
            publisher.join()
        assert sorted(refused) == list(range(16))
        health = requests.get(f"{server.url}/health", timeout=10)
        assert (health.status_code, health.json()["status"]) == (200, "degraded")
        assert server.call("POST", "/uploads", {"sha256": "f" * 64, "size": 5}).headers["Retry-After"] == "5"
        remote_bucket.proxy.drop()
        remote_bucket.proxy.restore()
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
def test_damaged_objects_are_never_installed(remote_bucket: RemoteBucket, tmp_path: Path, machine_in: Any) -> None:
    with control_plane(tmp_path, remote_bucket) as (server, proxy):
        machine = machine_in(server, proxy)
        for version, (damage, reason) in DAMAGES.items():
            tree = bundle(tmp_path / version, 2 * MIB)
            content = version.encode() + (tree / "model.bin").read_bytes()
            (tree / "model.bin").write_bytes(content)
            assert start_push(server, proxy, tree, version).wait(120) == 0
            key = f"blobs/{sha256(content)[:2]}/{sha256(content)}"
            if damage is None:
                remote_bucket.client.delete_object(Bucket=remote_bucket.name, Key=key)
            else:
                remote_bucket.put(key, damage(content))
            ended = end_of(server, deploy(server, version))
            assert (ended["state"], ended["reason_code"]) == ("failed", reason), machine.log.read_text()
            assert not machine.installed("model.bin")
        remote_bucket.put(key, content)
        assert end_of(server, deploy(server, version))["state"] == "succeeded", machine.log.read_text()


@pytest.mark.long
@pytest.mark.timeout(600)
def test_200_mb_survive_kills_of_every_process(remote_bucket: RemoteBucket, tmp_path: Path, machine_in: Any) -> None:
    with control_plane(tmp_path, remote_bucket) as (server, proxy):
        machine = machine_in(server, proxy)
        tree = bundle(tmp_path / "tree", 200 * MIB)

        pushing = start_push(server, proxy, tree)
        wait(lambda: remote_bucket.proxy.up > 60 * MIB)
        pushing.kill()
        pushing.wait()
        up = remote_bucket.proxy.up
        server.kill_web()
        server.start_web()
        pushing = start_push(server, proxy, tree)
        wait(lambda: remote_bucket.proxy.up > up + 40 * MIB)
        remote_bucket.proxy.drop()
        assert pushing.wait(300) == 0
        # Each interruption costs at most one part of 16 MiB.
        assert remote_bucket.proxy.up < 200 * MIB + 3 * 17 * MIB

        deployment = deploy(server)
        for portion in (40, 90, 140):
            wait(lambda portion=portion: machine.received_size() > portion * MIB)
            machine.kill()
            received, down = machine.received_size(), remote_bucket.proxy.down
            machine.start()
            wait(
                lambda received=received: (
                    machine.received_size() > received + 10 * MIB or machine.installed("model.bin")
                )
            )
            assert remote_bucket.proxy.down - down < 60 * MIB  # resumed, not from the beginning
        assert end_of(server, deployment, 300)["state"] == "succeeded", machine.log.read_text()
        (model,) = {path.resolve() for path in machine.installed("model.bin")}
        assert model.read_bytes() == (tree / "model.bin").read_bytes()
        assert proxy.up + proxy.down < 3 * MIB
