"""A state directory that is damaged: the device goes on, and `current` names what is whole."""

import os
import shutil
from collections.abc import Callable

import pytest

from tests.agent import bundle
from tests.agent.device import Device, wait_for
from tests.agent.server import FakeServer
from tests.agent.test_programs import installed

ONE, TWO, THREE = bundle.program("1"), bundle.program("2"), bundle.program("3")


JOURNALS = {
    "empty": b"", "zeros": b"\x00" * 4096, "deep": b"[" * 100_000, "bare": b'{"schema":1}', "list": b"[]",
    "infinite": b'{"schema":1,"commands":[1e999]}',
}  # fmt: skip


def no_manifest(device: Device) -> None:
    (device.state_dir / "products/vad/releases" / f"{TWO.sha256}.json").write_text("{")


def directory_as_current(device: Device) -> None:
    link = device.state_dir / "products/vad/current"
    whole = link.resolve()
    link.unlink()
    shutil.copytree(whole, link)


def no_current(device: Device) -> None:
    (device.state_dir / "products/vad/current").unlink()


def current_elsewhere(device: Device) -> None:
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


def strangers(device: Device) -> None:
    for place in ("blobs", "asked", "trash"):
        for name in ("directory", "directory.json", "lost+found"):
            (device.state_dir / place / name / "within").mkdir(parents=True)
        (device.state_dir / place / "nowhere.json").symlink_to("nowhere")
        os.mkfifo(device.state_dir / place / "fifo.json")
    (device.state_dir / "asked/deep.json").write_text("[" * 10_000)
    (device.state_dir / "products/vad/program.json").write_text('{"pid": 1e999, "started": 1, "boot_id": 1}')


def damaged_others(device: Device) -> None:
    (device.state_dir / "sequence.json").write_text("[" * 900 + "]" * 900)
    (device.state_dir / "device.json").write_text("[" * 900 + "]" * 900)


DAMAGES = [
    no_manifest, directory_as_current, no_current, current_elsewhere, directory_as_new_current, file_as_state,
    strangers, damaged_others,
]  # fmt: skip


@pytest.mark.parametrize("is_redeployed", [False, True], ids=["a new version", "the same version"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_device_goes_on(
    server: FakeServer, device: Device, damage: Callable[[Device], None], is_redeployed: bool
) -> None:
    device.start()
    installed(server, device, ONE, TWO)
    assert device.stop() == 0
    damage(device)
    goes_on(server, device, TWO if is_redeployed else THREE)


@pytest.mark.parametrize("content", JOURNALS.values(), ids=JOURNALS.keys())
def test_a_damaged_journal_is_begun_anew(server: FakeServer, device: Device, content: bytes) -> None:
    device.start()
    installed(server, device, ONE, TWO)
    assert device.stop() == 0
    (device.state_dir / "journal.json").write_bytes(content)
    goes_on(server, device, TWO)


def test_all_products_are_lost(server: FakeServer, device: Device) -> None:
    """The version that is gone is refused, for nothing tells what it had changed; another one goes on."""
    device.start()
    installed(server, device, ONE, TWO)
    assert device.stop() == 0
    shutil.rmtree(device.state_dir / "products")
    device.start()
    row = server.deploy(TWO)
    device.finish(row)
    assert row.state == "failed"
    assert "damaged; deploy another version" in row.last["message"]
    assert device.stop() == 0
    goes_on(server, device, THREE)


def goes_on(server: FakeServer, device: Device, wanted: bundle.Bundle) -> None:
    """The agent starts, beats, and installs what it is told."""
    device.start()
    count = len(server.heartbeats)
    wait_for(lambda: len(server.heartbeats) > count, 30, device.said)
    row = server.deploy(wanted)
    device.finish(row)
    assert row.state == "succeeded", device.said()
    assert device.runs(wanted), device.said()
    product = device.state_dir / "products/vad"
    assert (product / "current").resolve() == product / "releases" / wanted.sha256
    assert device.stop() == 0
    device.check()
