"""A complete deployment: the command line publishes, the control plane deploys, the real agent installs."""

from pathlib import Path

from tests.end_to_end.fleet import agent_process, deploy, final_device_deployment, push, wait_for, wait_until_online
from tests.live import Live


def test_a_healthy_version_runs_and_an_unhealthy_one_is_rolled_back(live: Live, tmp_path: Path) -> None:
    with agent_process(live, tmp_path) as state:
        device = wait_until_online(live, tmp_path.name)
        push(live, tmp_path / "one", "1", healthy=True)
        assert final_device_deployment(live, deploy(live, device, "1"))["state"] == "succeeded"
        push(live, tmp_path / "two", "2", healthy=False)
        rolled_back = final_device_deployment(live, deploy(live, device, "2"))
        assert (rolled_back["state"], rolled_back["reason_code"]) == ("rolled_back", "unhealthy")

        def runs_the_first_version() -> bool:
            bundle = live.call("GET", f"/devices/{device}").json()["running_bundles"]["demo"]
            return (bundle["version"], bundle["healthy"], bundle.get("verdict")) == ("1", True, {"segments": 3})

        wait_for(runs_the_first_version)  # its health check restarts with the program and has no result at first
        assert sorted(path.name for path in (state / "blobs").iterdir()) == []
