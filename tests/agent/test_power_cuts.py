"""Power cuts during an installation, after which the device starts again.

A crash point is a call that changes the disk or starts a process (`tests/agent/crash_points.py`). Wherever the power
fails, after the restart `current` points to a complete release, the committed release runs, there is exactly one final
report, and no unneeded file is left on disk.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.agent import bundle
from tests.agent.bundle import Bundle
from tests.agent.device import ROOT, Device
from tests.agent.server import DeviceDeployment, FakeServer

NEVER = 10**9
# The long test kills the agent at every crash point. The short test kills it at this many, spread evenly; they differ
# between the scenarios.
SAMPLES = 4

ONE = bundle.program("1", more={"model": "x" * 5000})
RECORDING_HOOK = '#!/bin/sh\necho hook >> "$KERNEX_STATE_DIR/hooks"\n'
HOOKS = {
    "pre_install": {"command": ["./hook"], "timeout_seconds": 5},
    "post_install": {"command": ["./hook"], "timeout_seconds": 5},
}
TWO = bundle.program("2", more={"model": "x" * 5000, "hook": RECORDING_HOOK, "other/copy": "x" * 5000}, hooks=HOOKS)
BROKEN = bundle.program("2", bundle.BAD, more={"model": "x" * 5000})
FAILING = bundle.program("2", more={"hook": "#!/bin/sh\nexit 3\n"}, hooks={"post_install": HOOKS["post_install"]})


@dataclass
class CommandRunner:
    """Runs commands of the agent, and kills them at a crash point."""

    process: subprocess.Popen[str]

    def run(self, device: Device, *arguments: str, kill_at: int = NEVER) -> dict[str, Any]:
        """Return the exit code of a command and the number of its crash points."""
        request = {
            "arguments": arguments, "environment": device.environment, "kill_at": kill_at, "log": str(device.log)
        }  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        result: dict[str, Any] = json.loads(self.process.stdout.readline())
        return result


@pytest.fixture(scope="module")
def runner() -> Iterator[CommandRunner]:
    command = [sys.executable, "-m", "tests.agent.crash_points"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield CommandRunner(process)


@dataclass
class Scenario:
    """The bundles that are installed first, the one that is deployed when the power fails, and its possible results."""

    name: str
    installed: list[Bundle]
    deployed: Bundle
    final_states: set[str]


SCENARIOS = [
    Scenario("a first version", [], ONE, {"succeeded", "failed"}),
    Scenario("a better version", [ONE], TWO, {"succeeded", "rolled_back"}),
    Scenario("a broken version", [ONE], BROKEN, {"rolled_back"}),
    Scenario("a version whose hook fails", [ONE], FAILING, {"rolled_back"}),
    Scenario("an older version", [ONE, TWO], ONE, {"succeeded", "rolled_back"}),
]


def run_scenario(server: FakeServer, device: Device, runner: CommandRunner, scenario: Scenario, kill_at: int) -> int:
    """Deploy with a power cut at `kill_at`, restart until the job has ended, and check the result.

    Return the number of crash points.
    """
    for installed in scenario.installed:
        deployment = server.deploy(installed)
        runner.run(device, "once")
        assert deployment.state == "succeeded", device.log_text()
    deployment = server.deploy(scenario.deployed)
    killed = runner.run(device, "once", kill_at=kill_at)
    if (
        kill_at != NEVER
    ):  # a run that checks its program less often has fewer crash points, and may end before `kill_at`
        assert killed["code"] == -9 or killed["crash_points"] < kill_at, (killed, device.log_text())
    for _ in range(3):
        restarted = runner.run(device, "once")
        assert restarted["code"] in {0, 9}, device.log_text()
        if deployment.is_finished:
            break
    check_outcome(server, device, scenario, deployment)
    return int(killed["crash_points"])


def check_outcome(server: FakeServer, device: Device, scenario: Scenario, deployment: DeviceDeployment) -> None:
    assert deployment.state in scenario.final_states, (deployment.reports, device.log_text())
    final_reports = [report for report in deployment.reports if report["state"] in scenario.final_states | {"failed"}]
    assert len(final_reports) == 1
    assert deployment.late_reports == []
    device.assert_consistent()
    expected = (
        scenario.deployed
        if deployment.state == "succeeded"
        else (scenario.installed[-1] if scenario.installed else None)
    )
    if expected is None:
        assert device.current() == ""
        assert not device.pids()
    else:
        assert device.current() == expected.sha256
        assert device.is_running(expected), device.log_text()
        assert len(device.pids()) == 1
        assert server.heartbeats[-1]["running_bundles"]["vad"]["manifest_sha256"] == expected.sha256


@pytest.fixture
def run_with_kill(runner: CommandRunner, tmp_path: Path) -> Callable[[Scenario, int], int]:
    """Run a scenario on a new device with a new server, and kill the agent at a crash point."""

    def run(scenario: Scenario, kill_at: int) -> int:
        with FakeServer().running() as server:
            device = Device(server, tmp_path / f"device-{kill_at}")
            device.options["STOP_GRACE_SECONDS"] = "1"
            try:
                return run_scenario(server, device, runner, scenario, kill_at)
            except AssertionError as error:
                error.add_note(f"{scenario.name}, killed at crash point {kill_at}")
                raise
            finally:
                device.clean_up()

    return run


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name.replace(" ", "-"))
def test_the_power_fails_at_some_crash_points(
    run_with_kill: Callable[[Scenario, int], int], scenario: Scenario
) -> None:
    count = run_with_kill(scenario, NEVER)
    assert count > 50
    start = SCENARIOS.index(scenario) + 1
    for kill_at in range(start, count, count // SAMPLES):
        run_with_kill(scenario, kill_at)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name.replace(" ", "-"))
def test_the_power_fails_at_every_crash_point(
    run_with_kill: Callable[[Scenario, int], int], scenario: Scenario
) -> None:
    count = run_with_kill(scenario, NEVER)
    for kill_at in range(1, count):
        run_with_kill(scenario, kill_at)
