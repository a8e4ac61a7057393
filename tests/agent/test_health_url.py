"""Health checks by HTTP: the gate requests a URL until the program responds, and reads its message and verdict."""

import socket
from typing import Any

import pytest

from tests.agent import bundle
from tests.agent.device import Device
from tests.agent.server import FakeServer

# The inserted statement sets `status` and `body` for GET /healthz. A redirect would lead to a healthy URL.
RESPONDING = """
import http.server, os, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status, body = 200, b""
        if self.path == "/healthz":
            %s
        self.send_response(status)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
        print("GET", self.path, self.headers["User-Agent"], flush=True)
    def log_message(self, *_): pass
time.sleep(1)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def responding(version: str, statement: str, timeout: int = 20, **fields: Any) -> bundle.Bundle:
    """Return a bundle whose program responds with the `status` and `body` that a statement sets."""
    port = free_port()
    text = RESPONDING % statement
    health = {"http": {"port": port, "path": "/healthz"}, "timeout_seconds": timeout, "interval_seconds": 1, **fields}
    return bundle.program(version, text, run={"command": ["python3", "run.py", str(port)]}, health=health)


def test_a_release_that_responds_is_healthy(server: FakeServer, device: Device) -> None:
    """The program begins to listen after a second, so the first requests are refused."""
    text = """status, body = 200, b'{"message": "fine", "verdict": {"frames": 3}}'"""
    device.start()
    deployment = server.deploy(responding("1", text))
    assert device.wait_for_end(deployment)["state"] == "succeeded", device.log_text()
    assert deployment.last["message"] == 'fine\n{"frames": 3}'


@pytest.mark.parametrize(
    ("statement", "explanation"),
    [
        ('status, body = 503, b\'{"message": "no camera"}\'', "/healthz responds with status 503. no camera"),
        ("status, body = 302, b''", "/healthz responds with status 302."),
        ("time.sleep(60)", "cannot be reached"),
        ("status, body = 200, b''; self.wfile.write(b'nonsense\\r\\n')", "cannot be reached"),
    ],
)
def test_a_release_with_a_wrong_response_is_not_healthy(
    server: FakeServer, device: Device, statement: str, explanation: str
) -> None:
    device.start()
    deployment = server.deploy(responding("1", statement, timeout=4))
    device.wait_for_end(deployment)
    assert (deployment.state, deployment.last["reason_code"]) == ("failed", "health_timeout")
    first = deployment.last["message"].splitlines()[0]
    assert first.startswith("The release was not healthy within 4 s.")
    assert explanation in first


@pytest.mark.parametrize("body", ["b'x' * 10_000_000", "b'[' * 4000", "b'[1]'", "b'\\xff'", "b'{\"verdict\": 1}'"])
def test_a_body_that_is_not_a_small_object_is_ignored(server: FakeServer, device: Device, body: str) -> None:
    device.start()
    deployment = server.deploy(responding("1", f"status, body = 200, {body}"))
    assert device.wait_for_end(deployment)["state"] == "succeeded", device.log_text()
    assert deployment.last["message"] == ""
