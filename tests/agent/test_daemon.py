"""The daemon: alone on its device, honest about its state, and stubborn towards servers and clocks."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.agent import bundle, faults
from tests.agent.device import ROOT, Device, wait_for
from tests.agent.server import TOKEN, FakeServer, Request

SLOW_HOOK = '#!/bin/sh\ntouch "$KERNEX_STATE_DIR/begun"\nsleep 3\n'


def with_hook(version: str, hook: str, timeout: int = 20) -> bundle.Bundle:
    hooks = {"pre_install": {"command": ["./hook"], "timeout_seconds": timeout}}
    return bundle.program(version, more={"hook": hook}, hooks=hooks)


def resident_megabytes(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError(pid)


def test_two_do_not_work_on_one_device(server: FakeServer, device: Device) -> None:
    device.start()
    wait_for(lambda: server.heartbeats)
    second = device.run("run")
    assert second.returncode == 7
    assert "Another agent works" in second.stderr


def test_status_is_told_while_it_runs(server: FakeServer, device: Device) -> None:
    device.start()
    device.finish(server.deploy(bundle.program("1")))
    shown = json.loads(device.run("status", "--json").stdout)
    assert shown["state"] == "accepted"
    assert shown["products"]["vad"]["current"]["version"] == "1"
    assert "vad: 1" in device.run("status").stdout


def test_an_idle_agent_is_small(server: FakeServer, device: Device) -> None:
    device.start()
    device.finish(server.deploy(bundle.program("1")))
    count = len(server.heartbeats)
    wait_for(lambda: len(server.heartbeats) > count + 2)
    assert device.process is not None
    assert resident_megabytes(device.process.pid) < 50


def test_once_ends_with_a_heartbeat_about_what_runs_now(server: FakeServer, device: Device) -> None:
    """Although the next heartbeat by the interval would be an hour later."""
    server.interval_seconds = 3600
    row = server.deploy(with_hook("1", SLOW_HOOK))
    device.once()
    assert row.state == "succeeded"
    assert server.heartbeats[-1]["running_bundles"]["vad"]["manifest_sha256"] == row.bundle.sha256


def test_once_waits_before_it_tries_its_last_heartbeat_again(server: FakeServer, device: Device) -> None:
    row = server.deploy(bundle.data("1", {"small": "s"}))
    refused: list[float] = []

    def refuse_twice(request: Request) -> bool:
        if not row.is_finished or len(refused) == 2:
            return False
        refused.append(request.at)
        return faults.status(503)(request)

    server.interval_seconds = 3600
    server.faults.append(faults.on("/heartbeat", refuse_twice))
    device.once()
    taken = server.asked_for("/heartbeat")[-1].at
    assert refused[1] - refused[0] >= 0.5
    assert taken - refused[1] >= 0.5


def test_the_server_is_remembered(server: FakeServer, device: Device) -> None:
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


def test_a_pending_device_waits_and_then_works(server: FakeServer, device: Device) -> None:
    server.state = "pending"
    row = server.deploy(bundle.program("1"))
    assert device.run("enrol").returncode == 0
    device.start()
    wait_for(lambda: len(server.asked_for("/heartbeat")) >= 2)
    assert row.taken == []
    server.state = "accepted"
    device.finish(row)
    assert row.state == "succeeded"


def test_a_decommissioned_device_keeps_what_it_runs(server: FakeServer, device: Device) -> None:
    device.start()
    device.finish(server.deploy(one := bundle.program("1")))
    server.state = "decommissioned"
    count = len(server.requests)
    wait_for(lambda: len(server.requests) > count)
    time.sleep(2)
    assert len(server.requests) <= count + 3, "it goes on asking"
    assert device.runs(one)
    assert device.stop() == 0
    done = device.run("once")
    assert done.returncode == 5
    assert "decommissioned" in device.run("status").stdout
    server.state = "accepted"
    assert device.run("once").returncode == 0
    assert "accepted" in device.run("status").stdout


@pytest.mark.parametrize("offset", [-400.0, 86_400.0 * 365 * 20])
def test_a_clock_of_any_wrongness_is_learnt(server: FakeServer, device: Device, offset: float) -> None:
    server.clock_offset = offset
    row = server.deploy(bundle.program("1"))
    device.once()
    assert row.state == "succeeded"


def test_a_used_sequence_is_jumped_over(server: FakeServer, device: Device) -> None:
    device.once()
    server.sequence += 5_000_000
    count = len(server.heartbeats)
    device.once()
    assert len(server.heartbeats) > count


def test_sequence_numbers_are_never_used_twice_over_kills(server: FakeServer, device: Device) -> None:
    for _ in range(4):
        count = len(server.heartbeats)
        device.start()
        wait_for(lambda count=count: len(server.heartbeats) > count)  # type: ignore[misc]
        device.kill()
    used = [int(one.headers["Kernex-Sequence"]) for one in server.asked_for("/heartbeat")]
    first: dict[str, str] = {}
    for one in server.asked_for("/heartbeat"):
        assert first.setdefault(one.headers["Kernex-Sequence"], one.headers["Signature"]) == one.headers["Signature"]
    assert used == sorted(used)


def test_a_command_that_is_said_again_and_again_is_done_once(server: FakeServer, device: Device) -> None:
    """Its acknowledgement is lost each time."""
    row = server.deploy(bundle.program("1"))
    server.faults.append(faults.on("/heartbeat", faults.lose_the_answer, times=3))
    device.start()
    device.finish(row)
    (pid,) = device.running()
    server.acknowledged.clear()
    count = len(server.heartbeats)
    wait_for(lambda: 1 in server.acknowledged and len(server.heartbeats) > count + 2)
    assert device.running() == {pid}
    assert row.late == []


def test_behind_the_point_of_no_return_the_devices_word_wins(server: FakeServer, device: Device) -> None:
    row = server.deploy(with_hook("1", SLOW_HOOK))
    device.start()
    wait_for(lambda: [*device.state_dir.rglob("begun")], why=device.said)
    server.cancel(row)
    device.finish(row)
    assert row.state == "succeeded"
    device.stop()
    device.check()


def test_sigterm_between_hook_and_health_gate_finishes_first(server: FakeServer, device: Device) -> None:
    row = server.deploy(one := with_hook("1", SLOW_HOOK))
    device.start()
    wait_for(lambda: [*device.state_dir.rglob("begun")], why=device.said)
    assert device.stop() == 0
    assert device.current() == one.sha256
    device.once()
    assert row.state == "succeeded"
    device.check()


@pytest.mark.parametrize(
    ("hook", "reason"),
    [("#!/bin/sh\nexit 3\n", "hook_failed"), ("#!/bin/sh\nsleep 600 & sleep 600\n", "hook_timeout")],
)
def test_a_hook_that_fails_before_anything_is_switched(
    server: FakeServer, device: Device, hook: str, reason: str
) -> None:
    one = bundle.program("1")
    server.deploy(one)
    row = server.deploy(with_hook("2", hook, timeout=1))
    device.once(exit_code=9)
    assert (row.state, row.last["reason_code"]) == ("failed", reason)
    assert device.runs(one)
    device.check()


def test_a_hook_that_fails_after_the_switch_goes_back(server: FakeServer, device: Device) -> None:
    one = bundle.program("1")
    server.deploy(one)
    hooks = {"post_install": {"command": ["./hook"], "timeout_seconds": 5}}
    row = server.deploy(bundle.program("2", more={"hook": "#!/bin/sh\nexit 3\n"}, hooks=hooks))
    device.once(exit_code=9)
    assert (row.state, row.last["reason_code"]) == ("rolled_back", "hook_failed")
    assert device.runs(one)
    device.check()


def test_a_silent_program_runs_out_of_time(server: FakeServer, device: Device) -> None:
    one = bundle.program("1")
    server.deploy(one)
    row = server.deploy(bundle.program("2", "import time; time.sleep(600)", timeout=1))
    device.once(exit_code=9)
    assert (row.state, row.last["reason_code"]) == ("rolled_back", "health_timeout")
    assert device.runs(one)


def test_reports_are_said_until_they_are_heard(server: FakeServer, device: Device) -> None:
    """Away, torn, and taken without an answer: the server asserts that a number is never used for two reports."""
    server.faults += [
        faults.on("/result", faults.status(503, Retry_After="1"), times=2),
        faults.on("/result", faults.reset, times=1),
        faults.on("/result", faults.lose_the_answer, times=2),
    ]
    row = server.deploy(bundle.program("1"))
    device.start()
    device.finish(row)
    assert row.state == "succeeded"
    assert [report["report"] for report in row.taken] == sorted({report["report"] for report in row.taken})
    wait_for(lambda: device.state.outbox == [])


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_secret_is_logged(server: FakeServer, device: Device, log_format: str) -> None:
    device.options |= {"LOG_LEVEL": "debug", "LOG_FORMAT": log_format}
    row = server.deploy(bundle.program("1"))
    device.start()
    device.finish(row)
    device.stop()
    said = device.said()
    signature = server.asked_for("/heartbeat")[0].headers["Signature"][8:-1]
    key = (device.state_dir / "identity.key").read_bytes()
    assert said
    assert [word for word in (TOKEN, signature, key.hex()) if word in said] == []
    if log_format == "json":
        assert all(json.loads(line)["message"] for line in said.splitlines())
