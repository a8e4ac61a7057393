"""A device that fails for a reason that may pass tries again, with the real agent."""

from pathlib import Path

import psycopg

from tests.end_to_end.fleet import (
    PROGRAM,
    agent_process,
    device_deployment_of,
    final_device_deployment,
    push_program,
    start_deployment,
    wait_for,
    wait_until_online,
)
from tests.live import Live

# It reports nothing at its first start, and its health at every later one.
SILENT_AT_FIRST = """
import pathlib, time
marker = pathlib.Path({marker!r})
if not marker.exists():
    marker.touch()
    time.sleep(600)
"""


def test_the_second_attempt_succeeds(live: Live, tmp_path: Path) -> None:
    with agent_process(live, tmp_path):
        device = wait_until_online(live, tmp_path.name)
        program = SILENT_AT_FIRST.format(marker=str(tmp_path / "marker")) + PROGRAM.replace("HEALTHY", "True")
        push_program(live, tmp_path / "slow", "5", program, timeout_seconds=5)
        deployment = start_deployment(live, device, "5", max_attempts=2)

        def failed_once() -> bool:
            rows = live.call("GET", f"/deployments/{deployment}/devices").json()["results"]
            return bool(rows) and rows[0]["failures"] == 1

        wait_for(failed_once)
        waiting = device_deployment_of(live, deployment)
        assert (waiting["state"], waiting["reason_code"]) == ("waiting", "health_timeout")
        assert waiting["waiting_for"]["kind"] == "retry"
        with psycopg.connect(live.environment["DATABASE_URL"], autocommit=True) as connection:
            connection.execute(
                "UPDATE deployments_devicedeployment SET retry_at = now() WHERE deployment_id = %s", [deployment]
            )
        ended = final_device_deployment(live, deployment)
        assert (ended["state"], ended["attempt"], ended["failures"]) == ("succeeded", 2, 1)
