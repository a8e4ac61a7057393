"""A new device and a new control plane for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.device import Device
from tests.agent.server import FakeServer


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer().running() as server:
        yield server


@pytest.fixture
def device(server: FakeServer, tmp_path: Path) -> Iterator[Device]:
    """A device with a configured server and token. No agent runs yet."""
    device = Device(server, tmp_path / "device")
    yield device
    device.clean_up()
