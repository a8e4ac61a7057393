"""Exports from gunicorn: a client that breaks off frees the slot and the thread that its export occupied."""

import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg
import pytest

from tests.live import Live, running

# Together they do not fit into the buffers of a connection.
DEVICES = 20_000
INSERT = """
INSERT INTO devices_device (
    id, public_key, state, name, group_id, tags, registered_at, device_type, hardware, attributes, attributes_version,
    agent_version, status, metrics, running_bundles, sequence, heartbeat_sha256, boot_id, previous_boot_id,
    boot_alternations)
SELECT gen_random_uuid(), lpad(number::text, 43, '0'), 'accepted', 'device ' || number || repeat('x', 80), id, '{}',
    now(), 'edge', '{}', '{}', 0, '', '', '{}', '{}', 0, '', '', '', 0
FROM devices_group, generate_series(1, %s) AS number
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A control plane with one group of `DEVICES` devices."""
    with running(tmp_path_factory.mktemp("live")) as live:
        live.group("lab")
        with psycopg.connect(live.environment["DATABASE_URL"]) as database:
            database.execute(INSERT, [DEVICES])
        yield live


def begin_export(server: Live) -> tuple[socket.socket, str]:
    """Send a request for an export. Return the connection and the status line, and read no more."""
    address = urlsplit(server.url)
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.connect((address.hostname, address.port))
    request = f"GET /api/v1/devices/export?format=jsonl HTTP/1.1\r\nHost: {address.netloc}\r\n"
    client.sendall(f"{request}Authorization: Bearer {server.tokens['viewer']}\r\n\r\n".encode())
    return client, client.recv(100).decode().partition("\r\n")[0]


def test_exports_that_break_off_end(server: Live) -> None:
    clients = []
    while True:
        client, status = begin_export(server)
        clients.append(client)
        if "503" in status:
            break
        assert "200" in status
        assert len(clients) <= server.workers
    for client in clients:
        client.close()
    deadline = time.monotonic() + 30
    path = "/devices/export?format=jsonl"
    while (response := server.call("GET", path, role="viewer")).status_code == 503:
        assert time.monotonic() < deadline, "the exports did not end"
        time.sleep(0.1)
    assert response.headers["Transfer-Encoding"] == "chunked"
    assert len(response.text.splitlines()) == DEVICES
