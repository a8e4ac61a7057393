"""`kernex-agent rollback`: with and without a running agent, killed, and with a damaged previous release."""

import subprocess
import sys
import time

import pytest

from agent.jobs.state import JobKind
from agent.local_requests import DIRECT_PREFIX, LocalRequests
from tests.agent import bundle, faults
from tests.agent.device import ROOT, Device, wait_for
from tests.agent.server import FakeServer
from tests.agent.test_programs import install

ONE, TWO = bundle.program("1"), bundle.program("2")
# Healthy only as long as the file `once` does not exist.
# It exits before it reports anything, so a slow machine does not take it for healthy.
HEALTHY_ONCE = (
    "import os, sys\n"
    "once = os.path.join(os.environ['KERNEX_STATE_DIR'], '..', '..', '..', '..', 'once')\n"
    "if os.path.exists(once):\n    sys.exit(3)\n"
) + bundle.GOOD


def test_rolling_back_needs_no_network(server: FakeServer, device: Device) -> None:
    server.deploy(ONE)
    server.deploy(TWO)
    device.once()
    assert device.is_running(TWO)
    server.faults.append(faults.drop)
    done = device.run("rollback", "vad")
    assert done.returncode == 0, done.stderr
    assert device.is_running(ONE)


def test_a_running_agent_carries_out_the_rollback(server: FakeServer, device: Device) -> None:
    device.start()
    install(server, device, ONE, TWO)
    done = device.run("rollback", "vad")
    assert done.returncode == 0, done.stderr
    assert device.is_running(ONE)


def test_an_interrupted_rollback_of_another_product_is_finished_too(server: FakeServer, device: Device) -> None:
    device.start()
    releases = [bundle.data(version, name=name) for name in ("vad", "zap") for version in ("1", "2")]
    install(server, device, *releases)
    device.stop()
    # The state after `rollback vad` was killed immediately.
    LocalRequests(device.state_dir).queue(device.journal(), JobKind.ROLL_BACK, "vad", f"{DIRECT_PREFIX}vad")
    done = device.run("rollback", "zap")
    assert done.returncode == 0, done.stderr
    assert device.current("zap") == releases[2].sha256
    assert device.current("vad") == releases[0].sha256


@pytest.mark.parametrize("is_running", [True, False], ids=["with a running agent", "without an agent"])
@pytest.mark.parametrize("damage", ["a file is missing", "the manifest is missing", "it crashes"])
def test_a_failed_rollback_prints_an_explanation_and_exits_with_9(
    server: FakeServer, device: Device, damage: str, is_running: bool
) -> None:
    bundle_1 = bundle.program("1", HEALTHY_ONCE)
    device.start()
    install(server, device, bundle_1, TWO)
    release = device.state_dir / "products/vad/releases" / bundle_1.sha256
    if damage == "a file is missing":
        (release / "run.py").unlink()
    elif damage == "the manifest is missing":
        release.with_name(f"{bundle_1.sha256}.json").unlink()
    else:
        (device.state_dir / "once").touch()
    if not is_running:
        assert device.stop() == 0
    done = device.run("rollback", "vad")
    assert done.returncode == 9, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("kernex-agent: vad was not rolled back")
    assert device.is_running(TWO)


def test_a_killed_request_leaves_no_files(server: FakeServer, device: Device) -> None:
    """The agent carries out the request once. The response and the unfinished request expire."""
    device.start()
    install(server, device, ONE, TWO)
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-m", "agent", "rollback", "vad"], cwd=ROOT, env=device.environment,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        requests_dir = device.state_dir / "asked"
        wait_for(lambda path=requests_dir: path.is_dir() and list(path.iterdir()))  # type: ignore[misc]
        process.kill()
        process.wait()
        time.sleep(0.5)
    wait_for(lambda: not device.state.jobs, 40, device.log_text)
    assert device.process is not None
    assert device.process.poll() is None
    (requests_dir / "unfinished.json.new").touch()
    assert device.stop() == 0
    for path in requests_dir.iterdir():
        assert path.name.endswith((".answer.json", ".json.new"))
    local_requests = LocalRequests(device.state_dir)
    local_requests.accept(device.journal())
    assert list(requests_dir.iterdir()), "a new response is kept"
    make_old(device)
    local_requests.accept(device.journal())
    assert list(requests_dir.iterdir()) == []
    device.assert_consistent()


def make_old(device: Device) -> None:
    for path in (device.state_dir / "asked").iterdir():
        subprocess.run(["touch", "-d", "2 hours ago", str(path)], check=True)
