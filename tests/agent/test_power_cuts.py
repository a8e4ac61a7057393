"""Power cuts during an installation, after which the device starts again.

A moment is one call that changes the disk or starts a process; see `tests/agent/power.py`. Whenever the power failed,
after the restart `current` names a complete release, the committed release runs, there is exactly one final report,
and nothing is left over on disk.
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
# The long test tries every moment; the short one tries this many, spread evenly and different for each scenario.
SAMPLES = 4

Prepare = Callable[[FakeServer, Device], None]

ONE = bundle.program("1", more={"model": "x" * 5000})
NOTE = '#!/bin/sh\necho hook >> "$KERNEX_STATE_DIR/hooks"\n'
HOOKS = {
    "pre_install": {"command": ["./hook"], "timeout_seconds": 5},
    "post_install": {"command": ["./hook"], "timeout_seconds": 5},
}
TWO = bundle.program("2", more={"model": "x" * 5000, "hook": NOTE, "other/copy": "x" * 5000}, hooks=HOOKS)
BROKEN = bundle.program("2", bundle.BAD, more={"model": "x" * 5000})
FAILING = bundle.program("2", more={"hook": "#!/bin/sh\nexit 3\n"}, hooks={"post_install": HOOKS["post_install"]})


@dataclass
class Power:
    process: subprocess.Popen[str]

    def run(self, device: Device, *words: str, kill_at: int = NEVER) -> dict[str, Any]:
        order = {
            "words": words, "environment": device.environment, "kill_at": kill_at, "log": str(device.log)
        }  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer


@pytest.fixture(scope="module")
def power() -> Iterator[Power]:
    command = [sys.executable, "-m", "tests.agent.power"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Power(process)


@dataclass
class Scenario:
    """The bundles installed beforehand, the one being deployed when the power fails, and the possible final states."""

    name: str
    before: list[Bundle]
    deployed: Bundle
    ends: set[str]


SCENARIOS = [
    Scenario("a first version", [], ONE, {"succeeded", "failed"}),
    Scenario("a better version", [ONE], TWO, {"succeeded", "rolled_back"}),
    Scenario("a broken version", [ONE], BROKEN, {"rolled_back"}),
    Scenario("a version whose hook fails", [ONE], FAILING, {"rolled_back"}),
    Scenario("an older version", [ONE, TWO], ONE, {"succeeded", "rolled_back"}),
]


def attempt(server: FakeServer, device: Device, power: Power, scenario: Scenario, kill_at: int) -> int:
    """Install with a power cut at `kill_at`, restart until the job has ended, and check.

    Return the number of moments.
    """
    for installed in scenario.before:
        device_deployment = server.deploy(installed)
        power.run(device, "once")
        assert device_deployment.state == "succeeded", device.log_text()
    device_deployment = server.deploy(scenario.deployed)
    cut = power.run(device, "once", kill_at=kill_at)
    if kill_at != NEVER:  # a run that polls its program less often has fewer moments, and may be over by then
        assert cut["code"] == -9 or cut["moments"] < kill_at, (cut, device.log_text())
    for _ in range(3):
        done = power.run(device, "once")
        assert done["code"] in {0, 9}, device.log_text()
        if device_deployment.is_finished:
            break
    check_outcome(server, device, scenario, device_deployment)
    return int(cut["moments"])


def check_outcome(server: FakeServer, device: Device, scenario: Scenario, device_deployment: DeviceDeployment) -> None:
    assert device_deployment.state in scenario.ends, (device_deployment.taken, device.log_text())
    final_reports = [report for report in device_deployment.taken if report["state"] in scenario.ends | {"failed"}]
    assert len(final_reports) == 1
    assert device_deployment.late == []
    device.check()
    runs = (
        scenario.deployed
        if device_deployment.state == "succeeded"
        else (scenario.before[-1] if scenario.before else None)
    )
    if runs is None:
        assert device.current() == ""
        assert not device.running()
    else:
        assert device.current() == runs.sha256
        assert device.runs(runs), device.log_text()
        assert len(device.running()) == 1
        assert server.heartbeats[-1]["running_bundles"]["vad"]["manifest_sha256"] == runs.sha256


@pytest.fixture
def try_at(power: Power, tmp_path: Path) -> Callable[[Scenario, int], int]:
    """Run a scenario on a new device with a new server."""

    def run(scenario: Scenario, kill_at: int) -> int:
        with FakeServer().running() as server:
            device = Device(server, tmp_path / f"device-{kill_at}")
            device.options["STOP_GRACE_SECONDS"] = "1"
            try:
                return attempt(server, device, power, scenario, kill_at)
            except AssertionError as error:
                error.add_note(f"{scenario.name}, cut at moment {kill_at}")
                raise
            finally:
                device.clean_up()

    return run


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name.replace(" ", "-"))
def test_the_power_fails_at_some_moments(try_at: Callable[[Scenario, int], int], scenario: Scenario) -> None:
    moments = try_at(scenario, NEVER)
    assert moments > 50
    start = SCENARIOS.index(scenario) + 1
    for kill_at in range(start, moments, moments // SAMPLES):
        try_at(scenario, kill_at)


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name.replace(" ", "-"))
def test_the_power_fails_at_every_moment(try_at: Callable[[Scenario, int], int], scenario: Scenario) -> None:
    moments = try_at(scenario, NEVER)
    for kill_at in range(1, moments):
        try_at(scenario, kill_at)
