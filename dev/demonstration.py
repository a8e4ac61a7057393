"""The demonstration of `make run`: the device runs a model, and rolls back a broken version of it."""

import json
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dev.child_processes import ChildFailed
from dev.control_plane import ControlPlane
from dev.terminal import Step, Terminal
from dev.workspace import Workspace

DEMO = Path(__file__).resolve().parent.parent / "demo"
PRODUCT = "vad"
GOOD, BROKEN = "1.0.0", "2.0.0"
MODEL_IN_WHEEL = "silero_vad/data/silero_vad.onnx"
# The bug in version 2: samples are scaled twice, so the model detects no speech.
BUG = ("/ 32768", "/ 32768**2")
VERDICT_SECONDS = 20


def show(
    terminal: Terminal,
    control_plane: ControlPlane,
    workspace: Workspace,
    environment: dict[str, str],
    check: Callable[[], None],
) -> None:
    """Publish and deploy both versions, unless an earlier run did so. Then print the verdict of the running bundle."""
    for version in (GOOD, BROKEN):
        if f"deployed {version}" in workspace.secrets:
            continue
        with terminal.step(f"The bundle {PRODUCT} {version}") as step:
            directory = create_bundle_directory(workspace.directory, version)
            pushed = push(control_plane, environment, directory, version)
            step.conclusion = f"{pushed['file_count']} files, {pushed['size'] / 2**20:.1f} MiB, {pushed['state']}"
        with terminal.step(f"The deployment of {PRODUCT} {version}") as step:
            states: list[str] = []

            def show_state(state: str, states: list[str] = states, step: Step = step) -> None:
                states.append(state)
                step.show_progress(" → ".join(states))

            deployment = control_plane.deploy(f"{PRODUCT}@{version}")
            outcome = control_plane.follow(deployment, show_state, check)
            step.conclusion = " → ".join(states)
        check_outcome(terminal, version, outcome)
        workspace.keep(f"deployed {version}", outcome["state"])
    print_running_bundle(terminal, control_plane, check)


def check_outcome(terminal: Terminal, version: str, outcome: dict[str, Any]) -> None:
    """Print why the device refused the broken version. Raise `ChildFailed` if the outcome is unexpected."""
    if version == GOOD and outcome["state"] != "succeeded":
        raise ChildFailed(f"The deployment of the working version ended as {outcome['state']}: {outcome['message']}")
    if version == BROKEN:
        if outcome["state"] == "succeeded":
            raise ChildFailed("The broken version passed the health gate.")
        terminal.print(f"  refused by the device at its health gate ({outcome['reason_code']}): {outcome['message']}")


def print_running_bundle(terminal: Terminal, control_plane: ControlPlane, check: Callable[[], None]) -> None:
    """Print the verdict of the running model from the device's heartbeat."""
    deadline = time.monotonic() + VERDICT_SECONDS
    while time.monotonic() < deadline:
        check()
        device = control_plane.device() or {}
        running = device.get("running_bundles", {}).get(PRODUCT, {})
        verdict = running.get("verdict")
        if verdict and running.get("healthy"):
            detected = " and ".join(f"{start:.2f}-{end:.2f} s" for start, end in verdict["segments"])
            expected = " and ".join(f"{start:.2f}-{end:.2f} s" for start, end in verdict["expected"])
            terminal.print(f"[bold]{device['name']}[/] runs {PRODUCT} {running['version']}, healthy")
            terminal.print(
                f"  detects speech at {detected} (expected {expected}), {verdict['latency_ms']} ms per window"
            )
            return
        time.sleep(0.2)
    terminal.print(f"[yellow]The device did not report the health of {PRODUCT} within {VERDICT_SECONDS} s.[/]")


def create_bundle_directory(var: Path, version: str) -> Path:
    """Create the directory of a version: the files of demo/vad, the model, and in the broken version a bug."""
    directory = var / "demo" / version
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(DEMO / PRODUCT, directory, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(fetch_model(var / "demo"), directory / "silero_vad.onnx")
    if version == BROKEN:
        runner = directory / "runner.py"
        runner.write_text(runner.read_text().replace(*BUG))
    return directory


def fetch_model(cache: Path) -> Path:
    """Return the path of the model. It is extracted from a wheel that demo/silero.txt pins by sha256."""
    model = cache / "silero_vad.onnx"
    if model.exists():
        return model
    cache.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--require-hashes", "--dest", str(cache), "--requirement", str(DEMO / "silero.txt"),
    ]  # fmt: skip
    download = subprocess.run(command, capture_output=True, text=True, check=False)
    if download.returncode:
        raise ChildFailed(f"The demonstration's model could not be downloaded:\n{download.stderr.strip()[-800:]}")
    wheel = next(cache.glob("silero_vad-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        temporary = model.with_suffix(".new")
        temporary.write_bytes(archive.read(MODEL_IN_WHEEL))
        temporary.replace(model)
    wheel.unlink()
    return model


def push(
    control_plane: ControlPlane, environment: dict[str, str], directory: Path, version: str, product: str = PRODUCT
) -> dict[str, Any]:
    """Publish a directory with the command line. Return the bundle."""
    command = [
        sys.executable, "-m", "kernex_cli", "push", str(directory), "--name", product, "--version", version, "--json",
    ]  # fmt: skip
    variables = {**environment, "KERNEX_SERVER": control_plane.url, "KERNEX_TOKEN": control_plane.token}
    pushed = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    if pushed.returncode:
        raise ChildFailed(f"kernex push failed:\n{pushed.stderr.strip()[-1500:]}")
    bundle: dict[str, Any] = json.loads(pushed.stdout)
    return bundle
