"""What `make run` shows on the device: a model that comes to run there, and a broken version that does not."""

import json
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dev.children import ChildFailed
from dev.control_plane import ControlPlane
from dev.screen import Screen
from dev.workspace import Workspace

DEMO = Path(__file__).resolve().parent.parent / "demo"
PRODUCT = "vad"
GOOD, BROKEN = "1.0.0", "2.0.0"
MODEL_IN_WHEEL = "silero_vad/data/silero_vad.onnx"
# The mistake of version 2: samples scaled twice, and so silent.
SLIP = ("/ 32768", "/ 32768**2")
VERDICT_SECONDS = 20


def show(
    screen: Screen,
    control_plane: ControlPlane,
    workspace: Workspace,
    environment: dict[str, str],
    check: Callable[[], None],
) -> None:
    """Publish and deploy both versions, unless an earlier run did; then show what runs."""
    for version in (GOOD, BROKEN):
        if f"deployed {version}" in workspace.secrets:
            continue
        with screen.step(f"The bundle {PRODUCT} {version}") as step:
            directory = make_bundle(workspace.directory, version)
            pushed = push(control_plane, environment, directory, version)
            step.conclusion = f"{pushed['file_count']} files, {pushed['size'] / 2**20:.1f} MiB, {pushed['state']}"
        with screen.step(f"Its deployment to {'the device' if version == GOOD else 'the same device'}") as step:
            states: list[str] = []

            def tell(state: str, states: list[str] = states, step: Any = step) -> None:
                states.append(state)
                step.tell(" → ".join(states))

            row = control_plane.follow(control_plane.deploy(f"{PRODUCT}@{version}"), tell, check)
            step.conclusion = " → ".join(states)
        judge(screen, version, row)
        workspace.keep(f"deployed {version}", row["state"])
    say_what_runs(screen, control_plane, check)


def judge(screen: Screen, version: str, row: dict[str, Any]) -> None:
    """Say what the outcome means. Raises `ChildFailed` if it is not the one to be shown."""
    if version == GOOD and row["state"] != "succeeded":
        raise ChildFailed(f"The demonstration's deployment ended as {row['state']}: {row['message']}")
    if version == BROKEN:
        if row["state"] == "succeeded":
            raise ChildFailed("The broken version passed the health gate.")
        screen.say(f"  refused by the device at its health gate ({row['reason_code']}): {row['message']}")


def say_what_runs(screen: Screen, control_plane: ControlPlane, check: Callable[[], None]) -> None:
    """Print the verdict of the running model, as the device's heartbeat carries it."""
    deadline = time.monotonic() + VERDICT_SECONDS
    while time.monotonic() < deadline:
        check()
        device = control_plane.device() or {}
        running = device.get("running_bundles", {}).get(PRODUCT, {})
        verdict = running.get("verdict")
        if verdict and running.get("healthy"):
            heard = " and ".join(f"{start:.2f}-{end:.2f} s" for start, end in verdict["segments"])
            expected = " and ".join(f"{start:.2f}-{end:.2f} s" for start, end in verdict["expected"])
            screen.say(f"[bold]{device['name']}[/] runs {PRODUCT} {running['version']}, healthy")
            screen.say(f"  hears speech at {heard}; expected {expected}; {verdict['latency_ms']} ms a window")
            return
        time.sleep(0.2)
    screen.say(f"[yellow]The device did not report what {PRODUCT} says within {VERDICT_SECONDS} s.[/]")


def make_bundle(var: Path, version: str) -> Path:
    """The directory of one version: what lies in demo/vad, the model, and in the broken version one mistake."""
    directory = var / "demo" / version
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(DEMO / PRODUCT, directory, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(fetch_model(var / "demo"), directory / "silero_vad.onnx")
    if version == BROKEN:
        runner = directory / "runner.py"
        runner.write_text(runner.read_text().replace(*SLIP))
    return directory


def fetch_model(cache: Path) -> Path:
    """The model's file, out of the wheel whose sha256 demo/silero.txt pins."""
    model = cache / "silero_vad.onnx"
    if model.exists():
        return model
    cache.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--require-hashes", "--dest", str(cache), "--requirement", str(DEMO / "silero.txt"),
    ]  # fmt: skip
    fetched = subprocess.run(command, capture_output=True, text=True, check=False)
    if fetched.returncode:
        raise ChildFailed(f"The demonstration's model could not be fetched:\n{fetched.stderr.strip()[-800:]}")
    wheel = next(cache.glob("silero_vad-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        temporary = model.with_suffix(".new")
        temporary.write_bytes(archive.read(MODEL_IN_WHEEL))
        temporary.replace(model)
    wheel.unlink()
    return model


def push(control_plane: ControlPlane, environment: dict[str, str], directory: Path, version: str) -> dict[str, Any]:
    """Publish a directory with the command line, as a publisher does. Returns the bundle."""
    command = [
        sys.executable, "-m", "kernex_cli", "push", str(directory), "--name", PRODUCT, "--version", version, "--json",
    ]  # fmt: skip
    told = {**environment, "KERNEX_SERVER": control_plane.url, "KERNEX_TOKEN": control_plane.token}
    pushed = subprocess.run(command, env=told, capture_output=True, text=True, check=False)
    if pushed.returncode:
        raise ChildFailed(f"kernex push failed:\n{pushed.stderr.strip()[-1500:]}")
    answer: dict[str, Any] = json.loads(pushed.stdout)
    return answer
