"""The simulated fleet of `make run` and `make fleet`: a deployment in two phases that trips and is rolled back."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dev.child_processes import ChildFailed
from dev.control_plane import ControlPlane
from dev.demonstration import push
from dev.terminal import Terminal
from dev.workspace import Workspace

GROUP = "fleet"
PRODUCT = "counter"
# The program of the bad version dies a few seconds after each start, on every device.
GOOD, BAD = "1.0.0", "1.1.0"
SMALL_FLEET = 6
CANARIES = 2


def command(url: str, token: str, size: int) -> list[str]:
    """Return the command that simulates a fleet of this size."""
    interval = 2 if size <= 100 else max(10, size // 100)
    return [
        sys.executable, "-m", "dev.simulate_fleet", url, "--token", token, "--devices", str(size), "--group", GROUP,
        "--interval", str(interval), "--crash", f"{BAD}=1", "--stage-seconds", "0.3" if size <= 100 else "2",
        "--offline", "0" if size <= 100 else "0.02",
    ]  # fmt: skip


def show(
    terminal: Terminal,
    control_plane: ControlPlane,
    workspace: Workspace,
    environment: dict[str, str],
    check: Callable[[], None],
) -> None:
    """Deploy the good version to the fleet, then the bad one in two phases, unless an earlier run did so."""
    if "deployed to the fleet" in workspace.secrets:
        return
    for version in (GOOD, BAD):
        push(control_plane, environment, _create_bundle_directory(workspace.directory, version), version, PRODUCT)
    with terminal.step(f"The deployment of {PRODUCT} {GOOD} to the simulated fleet") as step:
        deployment_id = control_plane.start_deployment(
            bundle=f"{PRODUCT}@{GOOD}", groups=[GROUP], observation_seconds=0
        )
        deployment = control_plane.wait_for_end(deployment_id, step.show_progress, check)
        step.conclusion = f"{deployment['counts']['succeeded']} succeeded"
    with terminal.step(f"The deployment of {PRODUCT} {BAD} in two phases") as step:
        deployment_id = control_plane.start_deployment(
            bundle=f"{PRODUCT}@{BAD}", groups=[GROUP], on_failure="roll_back", observation_seconds=60,
            unhealthy_seconds=2, phases=[{"count": CANARIES, "soak_seconds": 60}, {}],
        )  # fmt: skip
        deployment = control_plane.wait_for_end(deployment_id, step.show_progress, check)
        step.conclusion = deployment["outcome"].replace("_", " ")
    _explain(terminal, deployment)
    workspace.keep("deployed to the fleet", deployment["outcome"])


def _explain(terminal: Terminal, deployment: dict[str, Any]) -> None:
    """Print what happened. Raise `ChildFailed` if the deployment did not trip."""
    if deployment["outcome"] != "rolled_back":
        raise ChildFailed(f"The bad version was not rolled back: its deployment ended as {deployment['outcome']}.")
    first = deployment["phases"][0]["counts"]
    terminal.print(
        f"  phase 1 of 2 tripped: {first['bad']} of {first['admitted']} devices became unhealthy after their success."
    )
    untouched = deployment["device_count"] - first["admitted"]
    terminal.print(f"  They run {PRODUCT} {GOOD} again; {untouched} other devices never got {BAD}.")


def _create_bundle_directory(var: Path, version: str) -> Path:
    directory = var / "demo" / f"{PRODUCT}-{version}"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "model.bin").write_text(f"{PRODUCT} {version}\n" * 100)
    return directory
