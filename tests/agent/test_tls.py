"""TLS: the servers that the agent trusts, and its time limits on encrypted connections."""

import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent import bundle
from tests.agent.device import Device
from tests.agent.faults import on
from tests.agent.server import FakeServer, Request
from tests.tools import certificate


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("tls"), "server")


@pytest.fixture
def server(authority: Path) -> Iterator[FakeServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, authority.with_suffix(".key"))
    fake = FakeServer()
    fake.http.socket = context.wrap_socket(fake.http.socket, server_side=True)
    fake.url = fake.url.replace("http://", "https://")
    with fake.running():
        yield fake


def test_a_private_certificate_authority_works(server: FakeServer, device: Device, authority: Path) -> None:
    device.options["CA_FILE"] = str(authority)
    deployment = server.deploy(bundle.data("1"))
    device.once()
    assert deployment.state == "succeeded"


def test_a_server_without_a_trusted_certificate_gets_no_request(server: FakeServer, device: Device) -> None:
    done = device.run("once")
    assert done.returncode == 6
    assert "CERTIFICATE_VERIFY_FAILED" in done.stderr
    assert server.requests == []


def test_endless_response_headers_are_cut_off(server: FakeServer, device: Device, authority: Path) -> None:
    device.options |= {"CA_FILE": str(authority), "ANSWER_TIMEOUT_SECONDS": "2"}

    def drip(request: Request) -> bool:
        try:
            for _ in range(300):
                request.handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                time.sleep(0.1)
        except OSError:  # the agent closed the connection
            request.drop()
            return True
        raise AssertionError("the agent read all headers")

    server.faults = [on("heartbeat", drip, times=1)]
    device.once()
    assert len(server.heartbeats) == 1
