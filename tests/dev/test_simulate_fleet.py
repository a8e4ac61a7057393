"""The simulated fleet against a real control plane: devices succeed, fail, become unhealthy and return."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dev import simulate_fleet
from dev.control_plane import ControlPlane
from dev.demonstration import push
from dev.simulated_device import Behaviour
from tests.end_to_end.fleet import wait_for
from tests.live import Live, live

__all__ = ["live"]

DEVICES = 8
BEHAVIOUR = Behaviour(failing={"2.0.0": 1.0}, crashing={"3.0.0": 1.0}, stage_seconds=0.1, crash_seconds=1)


@pytest.fixture
def control_plane(live: Live) -> ControlPlane:
    return ControlPlane(live.url, live.token)


@pytest.fixture
def fleet(control_plane: ControlPlane) -> Iterator[simulate_fleet.Fleet]:
    """A fleet that is enrolled and sends heartbeats every second."""
    fleet = simulate_fleet.build(control_plane.url, DEVICES, seed=7, behaviour=BEHAVIOUR)
    fleet.enrol(control_plane.create_enrolment_token("fleet", DEVICES, 1))
    thread = threading.Thread(target=fleet.run)
    thread.start()
    yield fleet
    fleet.stopped.set()
    thread.join()
    assert fleet.counts["errors"] == 0, fleet.last_error


Deploy = Callable[..., dict[str, Any]]


@pytest.fixture
def deploy(control_plane: ControlPlane, live: Live, tmp_path: Path) -> Deploy:
    def deploy(label: str, **fields: Any) -> dict[str, Any]:
        """Deploy a bundle to the fleet. Return the deployment after its end."""
        product, _, version = label.partition("@")
        (tmp_path / version).mkdir()
        (tmp_path / version / "model").write_text(label)
        push(control_plane, live.environment, tmp_path / version, version, product)
        body = {"bundle": label, "groups": ["fleet"], "unhealthy_seconds": 1, "observation_seconds": 30, **fields}
        deployment_id = control_plane.start_deployment(**body)
        return control_plane.wait_for_end(deployment_id, lambda step: None, lambda: None)

    return deploy


def test_a_fleet_is_deployed_to_trips_and_returns(
    control_plane: ControlPlane, fleet: simulate_fleet.Fleet, deploy: Deploy
) -> None:
    def reported() -> dict[str, dict[str, Any]]:
        return control_plane.running_bundles("fleet")

    def all_run(version: str) -> bool:
        return all(device.running.get("svc", {}).get("version") == version for device in fleet.devices)

    assert deploy("svc@1.0.0")["outcome"] == "succeeded"
    assert all_run("1.0.0")
    failed = deploy("svc@2.0.0", phases=[{"count": 2}, {}], on_failure="cancel")
    assert failed["reason_code"] in {"error_threshold", "success_missed"}
    assert all_run("1.0.0")
    phases = [{"count": 2, "soak_seconds": 60}, {}]
    late = deploy("svc@3.0.0", phases=phases, on_failure="roll_back")
    assert (late["outcome"], late["phases"][1]["counts"]["admitted"]) == ("rolled_back", 0)
    wait_for(lambda: all_run("1.0.0"))
    wait_for(lambda: all(bundles["svc"]["version"] == "1.0.0" for bundles in reported().values()))
    again = simulate_fleet.build(fleet.devices[0].url, DEVICES, seed=7, behaviour=BEHAVIOUR)
    again.enrol("kxe_" + "x" * 43)  # known keys need no token
    again.restore(reported())
    assert [device.running["svc"]["version"] for device in again.devices] == ["1.0.0"] * DEVICES


def test_the_same_seed_gives_the_same_keys() -> None:
    first, second, other = (simulate_fleet.build("http://x", 3, seed, BEHAVIOUR) for seed in (1, 1, 50))
    keys = [[device.public_key for device in fleet.devices] for fleet in (first, second, other)]
    assert keys[0] == keys[1]
    assert not set(keys[0]) & set(keys[2])
    assert len(set(keys[0])) == 3


@pytest.mark.parametrize("text", ["1.0.0", "=0.5", "1.0.0=2", "1.0.0=-1", "1.0.0=x"])
def test_bad_shares_are_explained(
    text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["simulate_fleet", "http://x", "--token", "t", "--fail", text])
    with pytest.raises(SystemExit) as ended:
        simulate_fleet.main()
    assert ended.value.code == 2
    assert "write 1.1.0=0.3" in capsys.readouterr().err


def test_a_control_plane_that_cannot_be_reached_is_a_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["simulate_fleet", "http://127.0.0.1:1", "--token", "t"])
    assert simulate_fleet.main() == 1
    assert "Connection refused" in capsys.readouterr().err
