"""The whole of it: the command line publishes, the control plane deploys, the real agent installs and says so."""

from pathlib import Path
from typing import Any

from tests.end_to_end.fleet import agent_process, deploy, end_of, online, push, wait_for
from tests.live import Live


def test_a_good_version_runs_and_a_bad_one_is_refused(live: Live, tmp_path: Path) -> None:
    with agent_process(live, tmp_path) as state:
        device = online(live, tmp_path.name)
        push(live, tmp_path / "one", "1", healthy=True)
        assert end_of(live, deploy(live, device, "1"))["state"] == "succeeded"
        push(live, tmp_path / "two", "2", healthy=False)
        refused = end_of(live, deploy(live, device, "2"))
        assert (refused["state"], refused["reason_code"]) == ("rolled_back", "unhealthy")

        def running() -> dict[str, Any]:
            bundles: dict[str, dict[str, Any]] = live.call("GET", f"/devices/{device}").json()["running_bundles"]
            return bundles["demo"]

        wait_for(lambda: running()["version"] == "1" and running()["healthy"])
        assert running()["verdict"] == {"segments": 3}
        assert sorted(path.name for path in (state / "blobs").iterdir()) == []
