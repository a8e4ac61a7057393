"""A complete deployment: the command line publishes, the control plane deploys, the real agent installs."""

from pathlib import Path
from typing import Any

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

        def running_bundle() -> dict[str, Any]:
            bundles: dict[str, dict[str, Any]] = live.call("GET", f"/devices/{device}").json()["running_bundles"]
            return bundles["demo"]

        wait_for(lambda: running_bundle()["version"] == "1" and running_bundle()["healthy"])
        assert running_bundle()["verdict"] == {"segments": 3}
        assert sorted(path.name for path in (state / "blobs").iterdir()) == []
