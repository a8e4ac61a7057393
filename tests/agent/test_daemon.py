"""The daemon: one per device, a correct status, and heartbeats despite failing servers and clocks."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.agent import bundle, faults
from tests.agent.device import ROOT, Device, wait_for
from tests.agent.server import TOKEN, FakeServer, Request

SLOW_HOOK = '#!/bin/sh\ntouch "$KERNEX_STATE_DIR/started"\nsleep 3\n'


def with_hook(version: str, hook: str, timeout: int = 20) -> bundle.Bundle:
    hooks = {"pre_install": {"command": ["./hook"], "timeout_seconds": timeout}}
    return bundle.program(version, more={"hook": hook}, hooks=hooks)


def resident_megabytes(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(pid)


def test_a_second_agent_is_refused(server: FakeServer, device: Device) -> None:
    device.start()
    wait_for(lambda: server.heartbeats)
    second = device.run("run")
    assert second.returncode == 7
    assert "Another agent is using" in second.stderr


def test_status_works_while_the_agent_runs(server: FakeServer, device: Device) -> None:
    device.start()
    device.wait_for_end(server.deploy(bundle.program("1")))
    shown = json.loads(device.run("status", "--json").stdout)
    assert shown["state"] == "accepted"
    assert shown["products"]["vad"]["current"]["version"] == "1"
    assert "vad: 1" in device.run("status").stdout


def test_an_idle_agent_is_small(server: FakeServer, device: Device) -> None:
    device.start()
    device.wait_for_end(server.deploy(bundle.program("1")))
    count = len(server.heartbeats)
    wait_for(lambda: len(server.heartbeats) > count + 2)
    assert device.process is not None
    assert resident_megabytes(device.process.pid) < 50


def test_once_ends_with_a_heartbeat_about_the_running_release(server: FakeServer, device: Device) -> None:
    """The heartbeat interval is an hour, so this heartbeat does not wait for it."""
    server.interval_seconds = 3600
    deployment = server.deploy(with_hook("1", SLOW_HOOK))
    device.once()
    assert deployment.state == "succeeded"
    assert server.heartbeats[-1]["running_bundles"]["vad"]["manifest_sha256"] == deployment.bundle.sha256


def test_once_waits_before_it_retries_its_last_heartbeat(server: FakeServer, device: Device) -> None:
    deployment = server.deploy(bundle.data("1", {"small": "s"}))
    refused: list[float] = []

    def refuse_twice(request: Request) -> bool:
        if not deployment.is_finished or len(refused) == 2:
            return False
        refused.append(request.at)
        return faults.status(503)(request)

    server.interval_seconds = 3600
    server.faults.append(faults.on("/heartbeat", refuse_twice))
    device.once()
    accepted_at = server.requests_to("/heartbeat")[-1].at
    assert refused[1] - refused[0] >= 0.5
    assert accepted_at - refused[1] >= 0.5


def test_the_server_of_the_enrolment_is_stored(server: FakeServer, device: Device) -> None:
    server.state = "pending"
    enrolled = device.run("enrol")
    assert enrolled.stdout.endswith(f"kernex approve {next(iter(server.devices.values()))}\n")
    server.state = "accepted"
    environment = {name: text for name, text in device.environment.items() if not name.endswith(("_SERVER", "_TOKEN"))}
    done = subprocess.run(
        [sys.executable, "-m", "agent", "once"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert server.heartbeats


def test_a_pending_device_works_after_its_approval(server: FakeServer, device: Device) -> None:
    server.state = "pending"
    deployment = server.deploy(bundle.program("1"))
    assert device.run("enrol").returncode == 0
    device.start()
    wait_for(lambda: len(server.requests_to("/heartbeat")) >= 2)
    assert deployment.reports == []
    server.state = "accepted"
    device.wait_for_end(deployment)
    assert deployment.state == "succeeded"


def test_a_decommissioned_device_keeps_its_release_running(server: FakeServer, device: Device) -> None:
    device.start()
    device.wait_for_end(server.deploy(bundle_1 := bundle.program("1")))
    server.state = "decommissioned"
    count = len(server.requests)
    wait_for(lambda: len(server.requests) > count)
    time.sleep(2)
    assert len(server.requests) <= count + 3, "it sends too many requests"
    assert device.is_running(bundle_1)
    assert device.stop() == 0
    done = device.run("once")
    assert done.returncode == 5
    assert "decommissioned" in device.run("status").stdout
    server.state = "accepted"
    assert device.run("once").returncode == 0
    assert "accepted" in device.run("status").stdout


@pytest.mark.parametrize("offset", [-400.0, 86_400.0 * 365 * 20])
def test_a_clock_offset_of_any_size_is_corrected(server: FakeServer, device: Device, offset: float) -> None:
    server.clock_offset = offset
    deployment = server.deploy(bundle.program("1"))
    device.once()
    assert deployment.state == "succeeded"


def test_a_used_sequence_number_is_skipped(server: FakeServer, device: Device) -> None:
    device.once()
    server.sequence += 5_000_000
    count = len(server.heartbeats)
    device.once()
    assert len(server.heartbeats) > count


def test_sequence_numbers_are_never_used_twice_after_kills(server: FakeServer, device: Device) -> None:
    for _ in range(4):
        count = len(server.heartbeats)
        device.start()
        wait_for(lambda count=count: len(server.heartbeats) > count)  # type: ignore[misc]
        device.kill()
    used = [int(request.headers["Kernex-Sequence"]) for request in server.requests_to("/heartbeat")]
    signatures: dict[str, str] = {}
    for request in server.requests_to("/heartbeat"):
        signature = request.headers["Signature"]
        assert signatures.setdefault(request.headers["Kernex-Sequence"], signature) == signature
    assert used == sorted(used)


def test_a_repeated_command_is_executed_once(server: FakeServer, device: Device) -> None:
    """The response to its acknowledgement is lost each time."""
    deployment = server.deploy(bundle.program("1"))
    server.faults.append(faults.on("/heartbeat", faults.lose_response, times=3))
    device.start()
    device.wait_for_end(deployment)
    (pid,) = device.pids()
    server.acknowledged.clear()
    count = len(server.heartbeats)
    wait_for(lambda: 1 in server.acknowledged and len(server.heartbeats) > count + 2)
    assert device.pids() == {pid}
    assert deployment.late_reports == []


def test_a_cancel_after_the_point_of_no_return_changes_nothing(server: FakeServer, device: Device) -> None:
    deployment = server.deploy(with_hook("1", SLOW_HOOK))
    device.start()
    wait_for(lambda: [*device.state_dir.rglob("started")], explain=device.log_text)
    server.cancel(deployment)
    device.wait_for_end(deployment)
    assert deployment.state == "succeeded"
    device.stop()
    device.assert_consistent()


def test_an_installation_finishes_before_the_agent_stops(server: FakeServer, device: Device) -> None:
    deployment = server.deploy(bundle_1 := with_hook("1", SLOW_HOOK))
    device.start()
    wait_for(lambda: [*device.state_dir.rglob("started")], explain=device.log_text)
    assert device.stop() == 0
    assert device.current() == bundle_1.sha256
    device.once()
    assert deployment.state == "succeeded"
    device.assert_consistent()


@pytest.mark.parametrize(
    ("hook", "reason"),
    [("#!/bin/sh\nexit 3\n", "hook_failed"), ("#!/bin/sh\nsleep 600 & sleep 600\n", "hook_timeout")],
)
def test_a_hook_that_fails_before_the_switch_changes_nothing(
    server: FakeServer, device: Device, hook: str, reason: str
) -> None:
    bundle_1 = bundle.program("1")
    server.deploy(bundle_1)
    deployment = server.deploy(with_hook("2", hook, timeout=1))
    device.once(exit_code=9)
    assert (deployment.state, deployment.last["reason_code"]) == ("failed", reason)
    assert device.is_running(bundle_1)
    device.assert_consistent()


def test_a_hook_that_fails_after_the_switch_rolls_back(server: FakeServer, device: Device) -> None:
    bundle_1 = bundle.program("1")
    server.deploy(bundle_1)
    hooks = {"post_install": {"command": ["./hook"], "timeout_seconds": 5}}
    deployment = server.deploy(bundle.program("2", more={"hook": "#!/bin/sh\nexit 3\n"}, hooks=hooks))
    device.once(exit_code=9)
    assert (deployment.state, deployment.last["reason_code"]) == ("rolled_back", "hook_failed")
    assert device.is_running(bundle_1)
    device.assert_consistent()


def test_a_program_that_never_reports_health_times_out(server: FakeServer, device: Device) -> None:
    bundle_1 = bundle.program("1")
    server.deploy(bundle_1)
    deployment = server.deploy(bundle.program("2", "import time; time.sleep(600)", timeout=1))
    device.once(exit_code=9)
    assert (deployment.state, deployment.last["reason_code"]) == ("rolled_back", "health_timeout")
    assert device.is_running(bundle_1)


def test_reports_are_repeated_until_the_server_responds(server: FakeServer, device: Device) -> None:
    """The server is busy, resets connections, and loses responses. It asserts that each report has its own number."""
    server.faults += [
        faults.on("/result", faults.status(503, Retry_After="1"), times=2),
        faults.on("/result", faults.reset, times=1),
        faults.on("/result", faults.lose_response, times=2),
    ]
    deployment = server.deploy(bundle.program("1"))
    device.start()
    device.wait_for_end(deployment)
    assert deployment.state == "succeeded"
    assert [report["report"] for report in deployment.reports] == sorted(
        {report["report"] for report in deployment.reports}
    )
    wait_for(lambda: device.state.outbox == [])


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_secret_is_logged(server: FakeServer, device: Device, log_format: str) -> None:
    device.options |= {"LOG_LEVEL": "debug", "LOG_FORMAT": log_format}
    deployment = server.deploy(bundle.program("1"))
    device.start()
    device.wait_for_end(deployment)
    device.stop()
    text = device.log_text()
    signature = server.requests_to("/heartbeat")[0].headers["Signature"][8:-1]
    key = (device.state_dir / "identity.key").read_bytes()
    assert text
    assert [word for word in (TOKEN, signature, key.hex()) if word in text] == []
    if log_format == "json":
        assert all(json.loads(line)["message"] for line in text.splitlines())


def test_an_updated_agent_reports_its_new_attributes(server: FakeServer, device: Device) -> None:
    """The server has the attributes of another version of the agent, as after an update."""
    device.once()
    device.once()
    assert len(server.requests_to("PUT .*/attributes")) == 1
    path = device.state_dir / "device.json"
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "attributes_sha256": "0" * 64, "field_of_a_newer_agent": 1})
    )
    device.once()
    assert [request.json["version"] for request in server.requests_to("PUT .*/attributes")] == [1, 2]


def test_a_restart_for_an_update_continues_a_download(server: FakeServer, device: Device) -> None:
    bundle_1 = bundle.program("1")
    big = bundle.program("2", more={"model": "x" * 3_000_000})
    device.start()
    device.wait_for_end(server.deploy(bundle_1))
    sha256 = bundle.sha256(b"x" * 3_000_000)
    server.faults.append(faults.on(f"GET .*/blobs/{sha256}", faults.cut_after(1_000_000), times=1))
    server.faults.append(faults.on(f"GET .*/blobs/{sha256}", faults.status(503, Retry_After="1"), times=2))
    deployment = server.deploy(big)
    wait_for(lambda: len(server.requests_to(f"GET .*/blobs/{sha256}")) >= 2, 30, device.log_text)
    assert device.stop() == 0
    device.start()
    device.wait_for_end(deployment)
    assert deployment.state == "succeeded"
    assert server.requests_to(f"GET .*/blobs/{sha256}")[-1].headers["Range"] == "bytes=1000000-"
    assert device.is_running(big)
