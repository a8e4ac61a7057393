"""Crash loops without a previous release: the release is stopped, reported, and started only on request."""

import os
import time
from pathlib import Path

import pytest

from tests.agent import bundle
from tests.agent.device import Device, as_json, wait_for
from tests.agent.server import DeviceDeployment, FakeServer
from tests.agent.test_programs import FRAGILE, install

PRINTING = FRAGILE.replace("sys.exit(3)", "print('Cannot open /dev/camera.', flush=True)\nsys.exit(3)")


@pytest.fixture
def looping(server: FakeServer, device: Device) -> DeviceDeployment:
    """Install a first release, and let it crash until it is stopped."""
    device.options |= {"CRASH_LOOP_STARTS": "1"}
    device.start()
    install(server, device, bundle.program("1", PRINTING))
    (deployment,) = server.deployments.values()
    (device.state_dir / "broken").touch()
    wait_for(lambda: deployment.late_reports, 40, device.log_text)
    return deployment


def count_starts(device: Device) -> int:
    return device.log_text().count("Started vad")


def cpu_seconds(device: Device) -> float:
    """Return how much CPU time the agent has used."""
    assert device.process is not None
    fields = Path(f"/proc/{device.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def assert_stopped(server: FakeServer, device: Device) -> None:
    count = len(server.heartbeats)
    wait_for(lambda: len(server.heartbeats) > count + 1, 30, device.log_text)
    entry = server.heartbeats[-1]["running_bundles"]["vad"]
    assert not entry["healthy"]
    assert "no_previous" in entry["message"]
    assert entry["message"].endswith("Cannot open /dev/camera.")
    assert device.pids() == set()


def test_it_is_stopped_and_reported(server: FakeServer, device: Device, looping: DeviceDeployment) -> None:
    (report,) = looping.late_reports
    assert (report["state"], report["reason_code"]) == ("failed", "crash_loop")
    assert report["report"] > max(earlier["report"] for earlier in looping.reports)
    lines = report["message"].splitlines()
    assert "no_previous" in lines[0]
    assert lines[-1] == "Cannot open /dev/camera."
    count, used_seconds = count_starts(device), cpu_seconds(device)
    time.sleep(4)  # longer than the delay before the next start
    assert count_starts(device) == count
    assert cpu_seconds(device) - used_seconds < 2, "the idle agent uses the CPU"
    assert_stopped(server, device)
    assert server.heartbeats[-1]["running_bundles"]["vad"]["restarts"] == 2


@pytest.mark.parametrize("is_killed", [True, False])
def test_it_stays_stopped_after_a_restart(
    server: FakeServer, device: Device, looping: DeviceDeployment, is_killed: bool
) -> None:
    if is_killed:
        device.kill()
    else:
        assert device.stop() == 0
    assert "no_previous" in device.run("status").stdout
    (device.state_dir / "broken").unlink()
    device.start()
    assert_stopped(server, device)
    time.sleep(2)
    assert device.pids() == set()
    assert len(looping.late_reports) == 1


def test_deploying_it_again_starts_it(server: FakeServer, device: Device, looping: DeviceDeployment) -> None:
    """While the release still crashes, the deployment fails. After a success, the new deployment is observed."""
    second = server.deploy(looping.bundle)
    device.wait_for_end(second)
    assert (second.state, second.last["reason_code"]) == ("failed", "crash_loop")
    wait_for(lambda: device.pids() == set(), 20)
    assert "Cannot open /dev/camera." in server.heartbeats[-1]["running_bundles"]["vad"]["message"]
    time.sleep(3)
    assert device.pids() == set()
    (device.state_dir / "broken").unlink()
    third = server.deploy(looping.bundle)
    device.wait_for_end(third)
    assert third.state == "succeeded", device.log_text()
    assert device.is_running(looping.bundle)
    wait_for(lambda: server.heartbeats[-1]["running_bundles"]["vad"]["healthy"], 20, device.log_text)
    (device.state_dir / "broken").touch()
    wait_for(lambda: third.late_reports, 40, device.log_text)
    assert third.late_reports[0]["report"] > max(earlier["report"] for earlier in third.reports)
    assert (len(looping.late_reports), len(second.late_reports)) == (1, 0)


@pytest.mark.parametrize("is_running", [True, False])
def test_the_owner_starts_it_again(
    server: FakeServer, device: Device, looping: DeviceDeployment, is_running: bool
) -> None:
    if not is_running:
        assert device.stop() == 0
    done = device.run("restart", "vad")
    assert done.returncode == 9
    assert "crash_loop" in done.stderr
    assert device.pids() == set()
    (device.state_dir / "broken").unlink()
    done = device.run("restart", "vad")
    assert (done.returncode, done.stdout) == (0, "vad 1 was restarted and is healthy.\n"), device.log_text()
    assert device.is_running(looping.bundle)
    current = device.state.installed("vad").current
    assert current is not None
    assert (current.stopped, current.is_observed) == ("", True)
    if not is_running:
        device.start()
    wait_for(lambda: server.heartbeats[-1]["running_bundles"]["vad"]["healthy"], 30, device.log_text)


def test_only_an_installed_program_can_be_restarted(server: FakeServer, device: Device) -> None:
    device.start()
    install(server, device, bundle.data("1"))
    for product in ("vad", "other", "../vad"):
        assert device.run("restart", product).returncode == 9


def test_a_restart_starts_the_program_again(server: FakeServer, device: Device) -> None:
    device.start()
    install(server, device, bundle.program("1"))
    before = device.pids()
    assert device.run("restart", "vad").returncode == 0
    assert device.pids()
    assert not device.pids() & before


def test_a_later_release_does_not_return_to_a_stopped_one(
    server: FakeServer, device: Device, looping: DeviceDeployment
) -> None:
    (device.state_dir / "broken").unlink()
    install(server, device, two := bundle.program("2", PRINTING))
    (device.state_dir / "broken").touch()
    deployment = list(server.deployments.values())[-1]
    wait_for(lambda: deployment.late_reports, 40, device.log_text)
    assert deployment.late_reports[0]["state"] == "failed"
    assert device.current() == two.sha256
    assert_stopped(server, device)
    assert as_json(device.run("status", "--json").stdout)["products"]["vad"]["current"]["stopped"]
