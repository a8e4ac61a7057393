"""A read-only disk: the device continues to send heartbeats, says why it cannot work, and recovers."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent import bundle
from tests.agent.device import Device, wait_for
from tests.agent.server import FakeServer
from tests.agent.test_programs import install

ONE, TWO = bundle.program("1"), bundle.program("2")


@pytest.fixture
def device(server: FakeServer, small_disk: Path) -> Iterator[Device]:
    """A device with its state directory on a separate disk. The log is on another disk."""
    small_disk.chmod(0o700)
    device = Device(server, small_disk)
    yield device
    device.clean_up()


def remount(device: Device, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", str(device.state_dir)], check=True)


def wait_for_heartbeats(server: FakeServer, device: Device, count: int = 3) -> None:
    before = len(server.heartbeats)
    wait_for(lambda: len(server.heartbeats) >= before + count, 30, device.log_text)


def test_a_disk_that_becomes_read_only_while_the_agent_runs(server: FakeServer, device: Device) -> None:
    device.start()
    install(server, device, bundle.data("1"))
    assert device.process is not None
    # A file that is open for writing would prevent the remount. An idle agent has none.
    wait_for(lambda: device.state.is_idle())
    remount(device, "ro")
    deployment = server.deploy(bundle.data("2"))
    wait_for_heartbeats(server, device)
    assert server.heartbeats[-1]["status"] == "degraded"
    assert "Commands cannot be accepted" in device.log_text()
    assert "Read-only file system" in device.log_text()
    assert "Traceback" not in device.log_text()
    remount(device, "rw")
    device.wait_for_end(deployment)
    assert deployment.state == "succeeded"
    wait_for(lambda: server.heartbeats[-1]["status"] == "idle")
    assert device.stop() == 0
    device.assert_consistent()


def test_a_start_on_a_read_only_disk(server: FakeServer, device: Device) -> None:
    device.start()
    install(server, device, bundle.data("1"))
    assert device.stop() == 0
    remount(device, "ro")
    device.start()
    wait_for_heartbeats(server, device)
    assert server.heartbeats[-1]["running_bundles"]["vad"]["version"] == "1"
    assert server.heartbeats[-1]["status"] == "degraded"
    assert "cannot be written" in device.run("status").stdout
    assert device.log_text().count("cannot be used") < 10, "the same error is logged repeatedly"
    assert "Traceback" not in device.log_text()
    assert device.stop() == 0
    remount(device, "rw")


def test_a_rollback_on_a_read_only_disk_fails_with_an_explanation(server: FakeServer, device: Device) -> None:
    device.start()
    install(server, device, bundle.data("1"), bundle.data("2"))
    assert device.stop() == 0
    remount(device, "ro")
    done = device.run("rollback", "vad")
    assert done.returncode == 8
    assert done.stderr.splitlines()[-1].startswith("kernex-agent: The state directory cannot be used")
    assert "Traceback" not in done.stderr
    remount(device, "rw")
