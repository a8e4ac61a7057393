"""Damaged state directories: the agent continues, and `current` points to a complete release."""

import os
import shutil
from collections.abc import Callable

import pytest

from tests.agent import bundle
from tests.agent.device import Device, wait_for
from tests.agent.server import FakeServer
from tests.agent.test_programs import install

ONE, TWO, THREE = bundle.program("1"), bundle.program("2"), bundle.program("3")


JOURNALS = {
    "empty": b"", "zeros": b"\x00" * 4096, "deep": b"[" * 100_000, "bare": b'{"schema":1}', "list": b"[]",
    "infinite": b'{"schema":1,"commands":[1e999]}',
}  # fmt: skip


def no_manifest(device: Device) -> None:
    (device.state_dir / "products/vad/releases" / f"{TWO.sha256}.json").write_text("{")


def directory_as_current(device: Device) -> None:
    link = device.state_dir / "products/vad/current"
    release = link.resolve()
    link.unlink()
    shutil.copytree(release, link)


def no_current(device: Device) -> None:
    (device.state_dir / "products/vad/current").unlink()


def current_outside_the_product(device: Device) -> None:
    link = device.state_dir / "products/vad/current"
    elsewhere = device.state_dir.with_name("elsewhere") / TWO.sha256
    elsewhere.mkdir(parents=True)
    link.unlink()
    link.symlink_to(elsewhere)


def directory_as_new_current(device: Device) -> None:
    (device.state_dir / "products/vad/current.new/within").mkdir(parents=True)


def file_as_state(device: Device) -> None:
    shutil.rmtree(device.state_dir / "products/vad/state")
    (device.state_dir / "products/vad/state").touch()


def foreign_files(device: Device) -> None:
    for directory in ("blobs", "asked", "trash"):
        for name in ("subdirectory", "subdirectory.json", "lost+found"):
            (device.state_dir / directory / name / "within").mkdir(parents=True)
        (device.state_dir / directory / "nowhere.json").symlink_to("nowhere")
        os.mkfifo(device.state_dir / directory / "fifo.json")
    (device.state_dir / "asked/deep.json").write_text("[" * 10_000)
    (device.state_dir / "products/vad/program.json").write_text('{"pid": 1e999, "started": 1, "boot_id": 1}')


def damaged_others(device: Device) -> None:
    (device.state_dir / "sequence.json").write_text("[" * 900 + "]" * 900)
    (device.state_dir / "device.json").write_text("[" * 900 + "]" * 900)


DAMAGES = [
    no_manifest, directory_as_current, no_current, current_outside_the_product, directory_as_new_current, file_as_state,
    foreign_files, damaged_others,
]  # fmt: skip


@pytest.mark.parametrize("is_redeployed", [False, True], ids=["a new version", "the same version"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_device_continues(
    server: FakeServer, device: Device, damage: Callable[[Device], None], is_redeployed: bool
) -> None:
    device.start()
    install(server, device, ONE, TWO)
    assert device.stop() == 0
    damage(device)
    assert_continues(server, device, TWO if is_redeployed else THREE)


@pytest.mark.parametrize("content", JOURNALS.values(), ids=JOURNALS.keys())
def test_a_damaged_journal_is_replaced_by_an_empty_one(server: FakeServer, device: Device, content: bytes) -> None:
    device.start()
    install(server, device, ONE, TWO)
    assert device.stop() == 0
    (device.state_dir / "journal.json").write_bytes(content)
    assert_continues(server, device, TWO)


def test_a_device_without_its_products_continues_with_another_version(server: FakeServer, device: Device) -> None:
    """The lost version cannot be installed again, because the journal still lists it as installed."""
    device.start()
    install(server, device, ONE, TWO)
    assert device.stop() == 0
    shutil.rmtree(device.state_dir / "products")
    device.start()
    deployment = server.deploy(TWO)
    device.wait_for_end(deployment)
    assert deployment.state == "failed"
    assert "damaged; deploy another version" in deployment.last["message"]
    assert device.stop() == 0
    assert_continues(server, device, THREE)


def assert_continues(server: FakeServer, device: Device, wanted: bundle.Bundle) -> None:
    """Assert that the agent starts, sends heartbeats and installs a bundle."""
    device.start()
    count = len(server.heartbeats)
    wait_for(lambda: len(server.heartbeats) > count, 30, device.log_text)
    deployment = server.deploy(wanted)
    device.wait_for_end(deployment)
    assert deployment.state == "succeeded", device.log_text()
    assert device.is_running(wanted), device.log_text()
    product = device.state_dir / "products/vad"
    assert (product / "current").resolve() == product / "releases" / wanted.sha256
    assert device.stop() == 0
    device.assert_consistent()
