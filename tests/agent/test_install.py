"""Complete installations, from enrolment to a running program, with a server that verifies every signature."""

import os
import re
import stat
from typing import Any

import pytest

from tests.agent import bundle
from tests.agent.device import Device, wait_for
from tests.agent.server import FakeServer

STATES = ["accepted", "downloading", "installing", "checking", "succeeded"]


def test_a_device_enrols_installs_and_reports(server: FakeServer, device: Device) -> None:
    wanted = bundle.program("1", more={"model/big.bin": os.urandom(300_000), "hook": "#!/bin/sh\n"})
    deployment = server.deploy(wanted)
    device.once()
    assert deployment.states == STATES
    assert deployment.last["message"] == 'a message\n{"version": "1"}'
    assert deployment.last["timings"].keys() == {"fetch", "install", "check"}
    assert device.is_running(wanted)
    running = server.heartbeats[-1]["running_bundles"]["vad"]
    expected = {"version": "1", "manifest_sha256": wanted.sha256, "healthy": True, "restarts": 0}
    assert running == {**expected, "verdict": {"version": "1"}}
    assert server.acknowledged == [1]
    device.assert_consistent()


def test_a_bad_version_is_rolled_back(server: FakeServer, device: Device) -> None:
    good, bad = bundle.program("1"), bundle.program("2", bundle.BAD)
    first, second = server.deploy(good), server.deploy(bad)
    device.once(exit_code=9)
    assert first.state == "succeeded"
    assert (second.state, second.last["reason_code"]) == ("rolled_back", "unhealthy")
    assert "a message" in second.last["message"]
    assert device.is_running(good)
    device.assert_consistent()


def test_a_bad_first_version_leaves_nothing_behind(server: FakeServer, device: Device) -> None:
    deployment = server.deploy(bundle.program("1", bundle.BAD))
    device.once(exit_code=9)
    assert (deployment.state, deployment.last["reason_code"]) == ("failed", "unhealthy")
    assert device.current() == ""
    assert not device.pids()
    device.assert_consistent()


def test_the_daemon_replaces_a_running_version(server: FakeServer, device: Device) -> None:
    device.start()
    bundle_1, bundle_2 = bundle.program("1"), bundle.program("2")
    device.wait_for_end(server.deploy(bundle_1))
    assert device.is_running(bundle_1)
    device.wait_for_end(server.deploy(bundle_2))
    assert device.is_running(bundle_2)
    wait_for(lambda: server.heartbeats[-1]["running_bundles"]["vad"]["version"] == "2")
    assert device.stop() == 0
    assert not device.pids()
    device.assert_consistent()


def test_the_key_is_private_and_never_replaced(server: FakeServer, device: Device) -> None:
    device.once()
    key = device.state_dir / "identity.key"
    before = key.read_bytes()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(device.state_dir.stat().st_mode) == 0o700
    device.once()
    assert key.read_bytes() == before
    assert len(server.registrations) == 1


def test_files_of_the_previous_release_are_not_downloaded_again(server: FakeServer, device: Device) -> None:
    model = os.urandom(200_000)
    bundle_1 = bundle.program("1", more={"model": model})
    bundle_2 = bundle.program("2", more={"model": model, "extra": "new"})
    server.deploy(bundle_1)
    device.once()
    deployment = server.deploy(bundle_2)
    device.once()
    assert deployment.state == "succeeded"
    assert len(server.requests_to(f"GET .*/blobs/{bundle.sha256(model)}")) == 1
    device.assert_consistent()


def test_only_the_current_and_the_previous_release_are_kept(server: FakeServer, device: Device) -> None:
    sizes = []
    for version in range(5):
        deployment = server.deploy(bundle.data(str(version), {"file": bytes([version]) * 100_000, "v": str(version)}))
        device.once()
        assert deployment.state == "succeeded"
        device.assert_consistent()
        sizes.append(device.size())
    assert max(sizes[2:]) - min(sizes[2:]) < 5000


def test_an_installed_bundle_is_only_checked_again(server: FakeServer, device: Device) -> None:
    wanted = bundle.program("1")
    server.deploy(wanted)
    device.once()
    before = device.pids()
    again = server.deploy(wanted)
    device.once()
    assert again.state == "succeeded"
    assert device.pids() == before
    device.assert_consistent()


def test_the_previous_version_is_installed_from_disk(server: FakeServer, device: Device) -> None:
    bundle_1, bundle_2 = bundle.program("1"), bundle.program("2")
    server.deploy(bundle_1)
    server.deploy(bundle_2)
    device.once()
    fetched = len(server.requests_to("GET "))
    deployment = server.deploy(bundle_1)
    device.once()
    assert deployment.state == "succeeded"
    assert len(server.requests_to("GET ")) == fetched
    assert device.is_running(bundle_1)
    device.assert_consistent()


def test_the_same_bytes_at_several_paths_and_modes(server: FakeServer, device: Device) -> None:
    deployment = server.deploy(
        bundle.data("1", {"a/b": "same", "bin/c": "same", "d": "same", "empty": "", "e/f/g": ""})
    )
    device.once()
    assert deployment.state == "succeeded"
    device.assert_consistent()


def test_two_products_run_side_by_side(server: FakeServer, device: Device) -> None:
    ears, eyes = bundle.program("1", name="ears"), bundle.program("7", name="eyes")
    server.deploy(ears)
    server.deploy(eyes)
    device.once()
    assert device.is_running(ears)
    assert device.is_running(eyes)
    assert server.heartbeats[-1]["running_bundles"].keys() == {"ears", "eyes"}
    device.assert_consistent()


@pytest.mark.parametrize(
    ("fields", "reason_code", "message"),
    [
        ({"device_types": ["jetson", "pi"]}, "wrong_device_type", "for jetson, pi; this device has the type edge"),
        ({"requires": {"memory": 2**50}}, "no_memory", "the bundle requires 1125899906842624"),
        ({"requires": {"disk": 2**50}}, "no_space", "are needed"),
    ],
)
def test_a_device_refuses_bundles_that_it_cannot_run(
    server: FakeServer, device: Device, fields: dict[str, Any], reason_code: str, message: str
) -> None:
    """It refuses them before it downloads a blob."""
    deployment = server.deploy(bundle.data("1", **fields))
    device.once(exit_code=9)
    assert (deployment.state, deployment.last["reason_code"]) == ("rejected", reason_code)
    assert message in deployment.last["message"]
    assert not server.requests_to("/blobs/")
    device.assert_consistent()


def test_a_device_accepts_bundles_that_it_can_run(server: FakeServer, device: Device) -> None:
    deployment = server.deploy(bundle.data("1", device_types=["edge", "pi"], requires={"memory": 1024, "disk": 1024}))
    device.once()
    assert deployment.state == "succeeded"


def noisy(last_line: str) -> str:
    noise = "for number in range(2000): print('line', number, 'of the noise before the end')"
    return f"{noise}\nprint({last_line!r}, flush=True)\n"


def test_the_message_of_a_failed_hook_ends_with_its_last_line(server: FakeServer, device: Device) -> None:
    hook = f"#!/usr/bin/env python3\n{noisy('no camera on /dev/video0')}raise SystemExit(3)\n"
    hooks = {"post_install": {"command": ["./hook"], "timeout_seconds": 20}}
    deployment = server.deploy(bundle.data("1", {"hook": hook}, hooks=hooks))
    device.once(exit_code=9)
    lines = deployment.last["message"].split("\n")
    assert lines[0] == "The hook post_install ended with exit code 3. There is no previous release."
    assert lines[-1] == "no camera on /dev/video0"
    assert re.fullmatch(r"line \d+ of the noise before the end", lines[1])
    assert 3500 < len(deployment.last["message"].encode()) <= 4096


def test_the_message_of_a_failed_program_ends_with_its_last_line(server: FakeServer, device: Device) -> None:
    server.deploy(bundle.program("1"))
    deployment = server.deploy(bundle.program("2", noisy("no model") + "raise SystemExit(4)"))
    device.once(exit_code=9)
    assert (deployment.state, deployment.last["reason_code"]) == ("rolled_back", "crash_loop")
    lines = deployment.last["message"].split("\n")
    assert lines[0] == "The program exits repeatedly, most recently with exit code 4."
    assert lines[-1] == "no model"
    assert len(lines) > 50
