"""From enrolment to a program that runs, and back: the whole way against a server that checks every signature."""

import os
import stat

from tests.agent import bundle
from tests.agent.device import Device, wait_for
from tests.agent.server import FakeServer

STEPS = ["accepted", "downloading", "installing", "checking", "succeeded"]


def test_it_enrols_installs_checks_and_reports(server: FakeServer, device: Device) -> None:
    wanted = bundle.program("1", more={"model/big.bin": os.urandom(300_000), "hook": "#!/bin/sh\n"})
    row = server.deploy(wanted)
    device.once()
    assert row.states == STEPS
    assert row.last["message"] == 'as told\n{"version": "1"}'
    assert row.last["timings"].keys() == {"fetch", "install", "check"}
    assert device.runs(wanted)
    running = server.heartbeats[-1]["running_bundles"]["vad"]
    expected = {"version": "1", "manifest_sha256": wanted.sha256, "healthy": True, "verdict": {"version": "1"}}
    assert running == expected
    assert server.acknowledged == [1]
    device.check()


def test_a_bad_version_is_rolled_back(server: FakeServer, device: Device) -> None:
    good, bad = bundle.program("1"), bundle.program("2", bundle.BAD)
    first, second = server.deploy(good), server.deploy(bad)
    device.once(exit_code=9)
    assert first.state == "succeeded"
    assert (second.state, second.last["reason_code"]) == ("rolled_back", "unhealthy")
    assert "as told" in second.last["message"]
    assert device.runs(good)
    device.check()


def test_a_first_version_that_is_bad_leaves_nothing(server: FakeServer, device: Device) -> None:
    row = server.deploy(bundle.program("1", bundle.BAD))
    device.once(exit_code=9)
    assert (row.state, row.last["reason_code"]) == ("failed", "unhealthy")
    assert device.current() == ""
    assert not device.running()
    device.check()


def test_the_daemon_replaces_a_version_while_it_runs(server: FakeServer, device: Device) -> None:
    device.start()
    one, two = bundle.program("1"), bundle.program("2")
    device.finish(server.deploy(one))
    assert device.runs(one)
    device.finish(server.deploy(two))
    assert device.runs(two)
    wait_for(lambda: server.heartbeats[-1]["running_bundles"]["vad"]["version"] == "2")
    assert device.stop() == 0
    assert not device.running()
    device.check()


def test_the_key_is_private_and_stays(server: FakeServer, device: Device) -> None:
    device.once()
    key = device.state_dir / "identity.key"
    before = key.read_bytes()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(device.state_dir.stat().st_mode) == 0o700
    device.once()
    assert key.read_bytes() == before
    assert len(server.registrations) == 1


def test_files_that_a_release_shares_with_the_last_one_are_not_fetched_again(
    server: FakeServer, device: Device
) -> None:
    model = os.urandom(200_000)
    one = bundle.program("1", more={"model": model})
    two = bundle.program("2", more={"model": model, "extra": "new"})
    server.deploy(one)
    device.once()
    row = server.deploy(two)
    device.once()
    assert row.state == "succeeded"
    assert len(server.asked_for(f"GET .*/blobs/{bundle.sha256(model)}")) == 1
    device.check()


def test_only_the_present_and_the_previous_release_are_kept(server: FakeServer, device: Device) -> None:
    sizes = []
    for version in range(5):
        row = server.deploy(bundle.data(str(version), {"file": bytes([version]) * 100_000, "v": str(version)}))
        device.once()
        assert row.state == "succeeded"
        device.check()
        sizes.append(device.size())
    assert max(sizes[2:]) - min(sizes[2:]) < 5000


def test_the_same_bundle_again_is_only_checked(server: FakeServer, device: Device) -> None:
    wanted = bundle.program("1")
    server.deploy(wanted)
    device.once()
    before = device.running()
    again = server.deploy(wanted)
    device.once()
    assert again.state == "succeeded"
    assert device.running() == before
    device.check()


def test_going_to_an_older_version_uses_what_is_on_disk(server: FakeServer, device: Device) -> None:
    one, two = bundle.program("1"), bundle.program("2")
    server.deploy(one)
    server.deploy(two)
    device.once()
    fetched = len(server.asked_for("GET "))
    row = server.deploy(one)
    device.once()
    assert row.state == "succeeded"
    assert len(server.asked_for("GET ")) == fetched
    assert device.runs(one)
    device.check()


def test_the_same_bytes_at_several_paths_and_modes(server: FakeServer, device: Device) -> None:
    row = server.deploy(bundle.data("1", {"a/b": "same", "bin/c": "same", "d": "same", "empty": "", "e/f/g": ""}))
    device.once()
    assert row.state == "succeeded"
    device.check()


def test_two_products_live_side_by_side(server: FakeServer, device: Device) -> None:
    ears, eyes = bundle.program("1", name="ears"), bundle.program("7", name="eyes")
    server.deploy(ears)
    server.deploy(eyes)
    device.once()
    assert device.runs(ears)
    assert device.runs(eyes)
    assert server.heartbeats[-1]["running_bundles"].keys() == {"ears", "eyes"}
    device.check()
