"""A full disk: the device continues to send heartbeats, and to install when there is space again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent import bundle, faults
from tests.agent.device import Device, wait_for
from tests.agent.server import FakeServer
from tests.agent.test_downloads import BIG, slowly
from tests.agent.test_programs import install

ONE, TWO, THREE = bundle.program("1"), bundle.program("2"), bundle.program("3")


@pytest.fixture
def device(server: FakeServer, small_disk: Path) -> Iterator[Device]:
    """A device with its state directory on a separate small disk. The log is on another disk."""
    small_disk.chmod(0o700)
    device = Device(server, small_disk)
    yield device
    device.clean_up()


def fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65536, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                pass
    return filler


def wait_for_heartbeats(server: FakeServer, device: Device) -> None:
    count = len(server.heartbeats)
    wait_for(lambda: len(server.heartbeats) > count + 2, 30, device.log_text)


def test_a_restart_on_a_full_disk(server: FakeServer, device: Device, small_disk: Path) -> None:
    device.start()
    install(server, device, ONE, TWO)
    wait_for_heartbeats(server, device)
    device.kill()
    (device.state_dir / "ballast").unlink()  # an earlier write has used it
    filler = fill(small_disk)
    server.interval_seconds = 2
    for _ in range(2):
        device.start()
        wait_for_heartbeats(server, device)
        assert device.is_running(TWO), device.log_text()
        device.kill()
    assert "Trying again" not in device.log_text()
    device.start()
    deployment = server.deploy(THREE)
    wait_for_heartbeats(server, device)
    filler.unlink()
    device.wait_for_end(deployment)
    assert deployment.state == "succeeded", device.log_text()
    assert device.stop() == 0
    device.assert_consistent()


def test_a_disk_that_fills_up_during_a_download(server: FakeServer, device: Device, small_disk: Path) -> None:
    """The download fails, the installed program keeps running, and the next deployment succeeds once there is space."""
    device.options["DISK_MARGIN"] = "0"
    big = bundle.data("1", {"big": BIG}, name="zap")
    server.faults.append(faults.on(f"/blobs/{bundle.sha256(BIG)}", slowly(BIG, seconds=6), times=1))
    device.start()
    install(server, device, ONE)
    deployment = server.deploy(big)
    wait_for(lambda: [*(device.state_dir / "blobs").glob("*.part")], 30, device.log_text)
    filler = fill(small_disk)
    last = device.wait_for_end(deployment)
    assert (last["state"], last["reason_code"]) == ("failed", "no_space")
    wait_for_heartbeats(server, device)
    assert device.is_running(ONE), device.log_text()
    filler.unlink()
    install(server, device, bundle.data("2", {"big": BIG}, name="zap"))
    assert device.stop() == 0
    device.assert_consistent()
