"""Limits of downloads from the local disk: per process, per device, and how slow a device may be."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest

from deployments import blob_responses
from deployments.download_slots import SLOTS

CONTENT = os.urandom(300_000)


HOLD_SLOT = """
import sys, django
from uuid import UUID
django.setup()
from deployments.download_slots import SLOTS
print(SLOTS.acquire(UUID(sys.argv[1])), flush=True)
sys.stdin.readline()
"""


def test_processes_share_the_limit_per_device() -> None:
    device_id, other = uuid4(), uuid4()
    command = [sys.executable, "-W", "ignore", "-c", HOLD_SLOT, str(device_id)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        assert not SLOTS.acquire(device_id)
        assert SLOTS.acquire(other)
        SLOTS.release(other)
        process.kill()
    assert SLOTS.acquire(device_id)
    SLOTS.release(device_id)


def test_a_slow_device_is_disconnected_and_a_fast_one_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blob_responses, "WINDOW_SECONDS", 0.2)
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    server, client = socket.socketpair()
    client.settimeout(5)
    with server, client:
        fast = make_transfer(path, 256 * 1024)
        fast.watch(server)
        fast.read(64 * 1024)
        time.sleep(0.25)
        assert fast.timer is not None
        fast.close()
        server.sendall(b"still open")
        assert client.recv(64) == b"still open"
        slow = make_transfer(path, 256 * 1024)
        slow.watch(server)
        slow.read(100)
        assert client.recv(64) == b""
        slow.close()


def make_transfer(path: Path, length: int) -> blob_responses.Transfer:
    device_id = uuid4()
    assert SLOTS.acquire(device_id)
    return blob_responses.Transfer(path.open("rb"), 0, length, device_id)
