"""Downloads from gunicorn, as in production: one worker with four threads."""

import base64
import hashlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from nacl.signing import SigningKey

from tests.devices.signing import heartbeat_body, key_text, sign
from tests.live import Live, running

SIZE = 160 * 1024 * 1024
PART_SIZE = 16 * 1024 * 1024


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not become true"
        time.sleep(0.05)


class LiveDevice:
    """A device that sends its requests over the network."""

    def __init__(self, server: Live) -> None:
        self.server = server
        self.key = SigningKey.generate()
        self.sequence = 0
        body = {
            "token": server.enrolment_token(),
            "public_key": key_text(self.key),
            "device_type": "edge",
            "hardware": {},
        }
        self.id = self.call("POST", "/devices/register", body).json()["device_id"]

    def headers(self, method: str, path: str, body: bytes, sequence: int | None = None) -> dict[str, str]:
        return sign(self.key, method, urlsplit(self.server.url).netloc, f"/api/v1{path}", body, sequence=sequence)

    def call(
        self, method: str, path: str, body: Any = None, *, sequence: int | None = None, **options: Any
    ) -> requests.Response:
        raw = json.dumps(body).encode() if body is not None else b""
        headers = self.headers(method, path, raw, sequence) | options.pop("headers", {})
        headers |= {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        url = f"{self.server.url}/api/v1{path}"
        return requests.request(method, url, data=raw, headers=headers, timeout=30, **options)

    def heartbeat(self) -> Any:
        self.sequence += 1
        response = self.call("POST", f"/devices/{self.id}/heartbeat", heartbeat_body(), sequence=self.sequence)
        assert response.status_code == 200, response.text
        return response.json()

    def start_reading(self, path: str) -> socket.socket:
        """Send a request and read only the first bytes of the response."""
        connection = socket.create_connection(("127.0.0.1", self.server.port))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        netloc = urlsplit(self.server.url).netloc
        lines = [f"GET /api/v1{path} HTTP/1.1", f"Host: {netloc}"]
        lines += [f"{name}: {value}" for name, value in self.headers("GET", path, b"").items()]
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        assert connection.recv(12) == b"HTTP/1.1 200"
        return connection


def publish(server: Live, path: Path) -> str:
    """Publish a bundle of one file. Return the file's sha256."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    size = path.stat().st_size
    line = {"path": "model.bin", "sha256": sha256, "size": size, "mode": 0o644}
    manifest = {"schema": 1, "name": "big", "version": "1", "files": [line]}
    assert server.call("POST", "/bundles", {"manifest": manifest}).status_code == 201
    upload = server.call("POST", "/uploads", {"sha256": sha256, "size": size}).json()["id"]
    with path.open("rb") as file:
        for number in range(1, -(-size // PART_SIZE) + 1):
            part = file.read(PART_SIZE)
            digest = base64.b64encode(hashlib.sha256(part).digest()).decode()
            response = requests.put(
                f"{server.url}/api/v1/uploads/{upload}/parts/{number}",
                data=part,
                headers={
                    "Authorization": f"Bearer {server.token}",
                    "Content-Type": "application/octet-stream",
                    "Content-Digest": f"sha-256=:{digest}:",
                },
                timeout=60,
            )
            assert response.status_code == 200, response.text
    assert server.call("POST", f"/uploads/{upload}/complete").status_code == 202
    assert server.call("POST", "/bundles/big/1/publish").status_code in {200, 202}
    wait_for(lambda: server.call("GET", "/bundles/big/1").json()["state"] == "ready")
    return sha256


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with running(tmp_path_factory.mktemp("downloads")) as server:
        server.kill_web()
        server.workers = 1
        server.start_web()
        yield server


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("content") / "model.bin"
    block = os.urandom(1024 * 1024)
    with path.open("wb") as file:
        for number in range(SIZE // len(block)):
            file.write(number.to_bytes(4, "big") + block[4:])
    return path


@pytest.fixture(scope="module")
def blob(server: Live, content: Path) -> str:
    return f"/blobs/{publish(server, content)}"


@pytest.fixture(scope="module")
def device(server: Live) -> LiveDevice:
    return LiveDevice(server)


def worker_pids(server: Live) -> list[int]:
    assert server.web is not None
    return [int(pid) for pid in Path(f"/proc/{server.web.pid}/task/{server.web.pid}/children").read_text().split()]


def memory(pid: int) -> int:
    """Return the peak of a process's resident memory, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def test_a_large_blob_is_sent_in_constant_memory(server: Live, device: LiveDevice, blob: str, content: Path) -> None:
    (pid,) = worker_pids(server)
    memory_before = memory(pid)
    with device.call("GET", blob, stream=True) as response:
        assert response.status_code == 200
        assert int(response.headers["Content-Length"]) == SIZE
        sha256 = hashlib.sha256()
        for chunk in response.iter_content(1024 * 1024):
            sha256.update(chunk)
    assert sha256.hexdigest() == blob.rpartition("/")[2]
    assert memory(pid) - memory_before < 20 * 1024 * 1024


def test_a_download_resumes_after_a_killed_server(server: Live, device: LiveDevice, blob: str, content: Path) -> None:
    with device.call("GET", blob, stream=True) as response:
        first_bytes = next(response.iter_content(30 * 1024 * 1024))
        server.kill_web()
    server.start_web()
    headers = {"Range": f"bytes={len(first_bytes)}-", "If-Range": f'"{blob.rpartition("/")[2]}"'}
    with device.call("GET", blob, stream=True, headers=headers) as response:
        assert response.status_code == 206
        assert response.headers["Content-Range"] == f"bytes {len(first_bytes)}-{SIZE - 1}/{SIZE}"
        remaining_bytes = response.content
    assert first_bytes + remaining_bytes == content.read_bytes()


def test_heartbeats_continue_while_a_slow_download_occupies_a_thread(
    server: Live, device: LiveDevice, blob: str
) -> None:
    slow = device.start_reading(blob)
    try:
        refused = device.call("GET", blob)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "busy")
        assert int(refused.headers["Retry-After"]) > 0
        small = device.call("GET", blob, headers={"Range": "bytes=0-9"})
        assert (small.status_code, len(small.content)) == (206, 10)
        assert device.heartbeat()["state"] == "accepted"
    finally:
        slow.close()
    # Closing the connection releases the slot.
    wait_for(lambda: device.call("GET", blob, headers={"Range": "bytes=0-99999"}).status_code == 206)


@pytest.mark.long
def test_a_device_that_stops_reading_is_disconnected(server: Live, device: LiveDevice, blob: str) -> None:
    """The server releases its slot long before the kernel closes the connection."""
    stopped = device.start_reading(blob)
    try:
        wait_for(lambda: device.call("GET", blob, headers={"Range": "bytes=0-99999"}).status_code == 206, 45)
    finally:
        stopped.close()


def test_concurrent_downloads_all_succeed(server: Live, device: LiveDevice, blob: str) -> None:
    def fetch(_: int) -> int:
        start = 5 * 1024 * 1024
        while True:
            response = device.call("GET", blob, headers={"Range": f"bytes={start}-{2 * start - 1}"})
            if response.status_code != 503:
                assert response.status_code == 206
                return len(response.content)
            time.sleep(0.05)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(fetch, range(16))) == [5 * 1024 * 1024] * 16


def test_the_scheduler_plans_offers_and_finishes(server: Live, device: LiveDevice, blob: str) -> None:
    created = server.call("POST", "/deployments", {"bundle": "big@1", "devices": [device.id]})
    assert created.status_code == 201, created.text
    path = f"/deployments/{created.json()['id']}"
    wait_for(lambda: device.heartbeat()["commands"])
    response = device.call("POST", f"{path}/result", {"attempt": 1, "report": 1, "state": "succeeded"})
    assert (response.status_code, response.json()) == (200, {"state": "succeeded"})
    wait_for(lambda: server.call("GET", path).json()["state"] == "finished")
    assert server.call("GET", path).json()["counts"]["succeeded"] == 1
