"""Programs: restarts, termination with all children, adoption after an agent crash, rollback in crash loops."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from agent.config import load
from agent.jobs.journal import Journal
from agent.jobs.state import Product, Release
from agent.manifest_parts import Run
from agent.programs.crash_loops import CrashLoopWatch
from agent.programs.execution import CommandContext
from agent.programs.logs import MAX_FILE_SIZE, ProgramLog
from agent.programs.program import LONGEST_DELAY_SECONDS, Program
from agent.programs.supervisor import Supervisor
from tests.agent import bundle
from tests.agent.device import Device, wait_for
from tests.agent.server import TOKEN, FakeServer

FAMILY = """
import os, signal, subprocess, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
"""
# Healthy until the file `broken` exists in the agent's state directory.
FRAGILE = bundle.GOOD.replace(
    "time.sleep(600)",
    "broken = os.path.join(os.environ['KERNEX_STATE_DIR'], '..', '..', '..', '..', 'broken')\n"
    "while not os.path.exists(broken):\n    time.sleep(0.05)\nsys.exit(3)",
)
# The same, and replaces its health file and its log with directories.
REPLACING_FILES = FRAGILE.replace(
    "sys.exit(3)",
    "state = os.environ['KERNEX_STATE_DIR']\n"
    "os.unlink(os.path.join(state, 'health.json'))\n"
    "os.makedirs(os.path.join(state, 'health.json', 'within'))\n"
    "import glob\n"
    "(log,) = glob.glob(os.path.join(state, '../../../../logs/vad/2@*.log'))\n"
    "os.unlink(log)\n"
    "os.makedirs(log)\n"
    "sys.exit(3)",
)
PRINTS_ENVIRONMENT = """
import json, os
with open(os.path.join(os.environ["KERNEX_STATE_DIR"], "environment.json"), "w") as file:
    json.dump(dict(os.environ), file)
"""


def install(server: FakeServer, device: Device, *bundles: bundle.Bundle) -> None:
    for deployed in bundles:
        deployment = server.deploy(deployed)
        device.wait_for_end(deployment)
        assert deployment.state == "succeeded", device.log_text()


def test_a_program_that_was_killed_is_started_again(server: FakeServer, device: Device) -> None:
    device.start()
    install(server, device, bundle.program("1"))
    (first,) = device.pids()
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: device.pids() not in (set(), {first}))


def test_no_process_of_a_program_survives(server: FakeServer, device: Device) -> None:
    """The program ignores SIGTERM, and its child has its own session."""
    device.start()
    install(server, device, bundle.program("1", FAMILY + bundle.GOOD))
    wait_for(lambda: len(device.pids()) == 2)
    assert device.stop() == 0
    assert device.pids() == set()


# Starts a process with an empty environment, a new session and a new group. Its parent exits immediately.
DAEMONIZING = """
import subprocess, sys
subprocess.run(["sh", "-c", "env -i setsid sleep 4321 >/dev/null 2>&1 </dev/null &"], check=True)
"""


def processes_named(*words: str) -> list[int]:
    wanted = b"\x00".join(word.encode() for word in words) + b"\x00"
    pids = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if path.read_bytes() == wanted:
                pids.append(int(path.parent.name))
    return pids


@pytest.mark.parametrize("is_agent_killed", [False, True])
def test_a_child_without_its_environment_is_killed_with_its_release(
    server: FakeServer, device: Device, is_agent_killed: bool
) -> None:
    device.start()
    install(server, device, bundle.program("1", DAEMONIZING + bundle.GOOD))
    wait_for(lambda: len(processes_named("sleep", "4321")) == 1)
    if is_agent_killed:
        device.kill()
        device.start()
    install(server, device, bundle.program("2"))
    assert processes_named("sleep", "4321") == []


def test_a_child_without_its_environment_is_killed_with_its_hook(server: FakeServer, device: Device) -> None:
    hooks = {"pre_install": {"command": ["./hook"], "timeout_seconds": 20}}
    hook = "#!/bin/sh\nenv -i setsid sleep 4322 >/dev/null 2>&1 </dev/null &\nsleep 0.5\n"
    deployment = server.deploy(bundle.data("1", {"hook": hook}, hooks=hooks))
    device.once()
    assert deployment.state == "succeeded"
    assert processes_named("sleep", "4322") == []


# Prints 200 MB as fast as it can, and then one last line.
FLOOD = """
line = b"x" * 99 + b"\\n"
for _ in range(200):
    os.write(1, line * 10_000)
os.write(1, b"the end of flood %d\\n")
"""


def test_a_program_that_prints_without_end_does_not_fill_the_disk(server: FakeServer, device: Device) -> None:
    """The log stays bounded while the agent runs and after it was killed, and the program is never blocked."""
    flood = f"import os\n{FLOOD % 1}\nimport time; time.sleep(2)\n{FLOOD % 2}\nimport time; time.sleep(600)"
    device.start()
    server.deploy(bundle.program("1", flood, timeout=60))
    logs = device.state_dir / "logs/vad"
    wait_for(logs.exists)
    first = size_until(logs, b"the end of flood 1")
    device.kill()
    second = size_until(logs, b"the end of flood 2")
    assert 100_000 < first <= 2 * MAX_FILE_SIZE
    assert 100_000 < second <= 2 * MAX_FILE_SIZE


def size_until(logs: Path, line: bytes) -> int:
    """Return the largest total size of the logs until one of them contains `line`."""
    largest, contents = 0, b""
    deadline = time.monotonic() + 60
    while line not in contents:
        assert time.monotonic() < deadline
        with suppress(FileNotFoundError):  # the log was rotated in the meantime
            largest = max(largest, sum(path.stat().st_size for path in logs.iterdir()))
            contents = b"".join(path.read_bytes() for path in logs.iterdir())
        time.sleep(0.02)
    return largest


def test_a_program_outlives_its_agent_and_is_adopted(server: FakeServer, device: Device) -> None:
    device.start()
    install(server, device, bundle.program("1"))
    before = device.pids()
    device.kill()
    assert device.pids() == before
    count = len(server.heartbeats)
    device.start()
    wait_for(lambda: len(server.heartbeats) > count + 1)
    assert device.pids() == before


def test_a_crash_loop_under_observation_is_rolled_back(server: FakeServer, device: Device) -> None:
    device.options |= {"CRASH_LOOP_STARTS": "2"}
    device.start()
    install(server, device, bundle_1 := bundle.program("1"), bundle.program("2", FRAGILE))
    (device.state_dir / "broken").touch()
    wait_for(lambda: device.is_running(bundle_1), 40, device.log_text)
    wait_for(lambda: server.heartbeats[-1]["running_bundles"]["vad"]["version"] == "1")
    assert device.stop() == 0
    device.assert_consistent()


def test_restarts_by_the_agent_are_not_crashes(server: FakeServer, device: Device) -> None:
    """Failing versions and agent restarts also restart a healthy release, which is not rolled back."""
    device.options |= {"CRASH_LOOP_STARTS": "1"}
    installed_bundles = [bundle.program("1"), bundle_2 := bundle.program("2")]
    device.start()
    install(server, device, *installed_bundles)
    for version in ("3", "4"):
        deployment = server.deploy(bundle.program(version, bundle.BAD))
        device.wait_for_end(deployment)
        assert deployment.state == "rolled_back"
    for _ in range(3):
        assert device.stop() == 0
        device.start()
        wait_for(lambda: device.is_running(bundle_2) and device.pids(), 40, device.log_text)
    current = device.state.installed("vad").current
    assert current is not None
    assert (current.version, current.crashes, current.is_observed) == ("2", 0, True)


def test_crashes_of_a_new_version_do_not_count_for_the_installed_one(server: FakeServer, device: Device) -> None:
    device.options |= {"CRASH_LOOP_STARTS": "1"}
    device.start()
    install(server, device, bundle.program("1"), bundle_2 := bundle.program("2"))
    deployment = server.deploy(bundle.program("3", "raise SystemExit(3)"))
    device.wait_for_end(deployment)
    assert (deployment.state, deployment.last["reason_code"]) == ("rolled_back", "crash_loop")
    wait_for(lambda: not device.state.jobs)
    assert device.is_running(bundle_2)
    current = device.state.installed("vad").current
    assert current is not None
    assert current.crashes == 0


def test_the_observation_time_adds_up_over_restarts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    config = replace(load(environment={}), bake_seconds=60)
    with Journal(tmp_path).change() as state:
        state.products["vad"] = Product(Release("1", "a" * 64, is_observed=True, crashes=1))
    for is_observed in (True, True, False):
        journal = Journal(tmp_path)
        watch = CrashLoopWatch(config, journal)
        watch.update_observation()
        now += 20
        watch.update_observation()
        current = Journal(tmp_path).state.installed("vad").current
        assert current is not None
        assert current.is_observed is is_observed
    assert current is not None
    assert current.crashes == 0


def test_a_release_that_replaces_a_crashing_one_is_kept(server: FakeServer, device: Device) -> None:
    """The crash loop is detected during the hook of the next release. A later rollback would return to the loop."""
    device.options |= {"CRASH_LOOP_STARTS": "2"}
    wait = "#!/bin/sh\ntouch ../../../../hook\nwhile ! test -e ../../../../go; do sleep 0.05; done\n"
    hooks = {"pre_install": {"command": ["./hook"], "timeout_seconds": 60}}
    three = bundle.program("3", more={"hook": wait}, hooks=hooks)
    device.start()
    install(server, device, bundle.program("1"), bundle.program("2", FRAGILE))
    deployment = server.deploy(three)
    wait_for((device.state_dir / "hook").exists, 40, device.log_text)
    (device.state_dir / "broken").touch()
    wait_for(lambda: "returning to the previous release" in device.log_text(), 40, device.log_text)
    time.sleep(6)  # longer than the delay before the next start
    assert device.log_text().count("returning to the previous release") == 1
    (device.state_dir / "go").touch()
    device.wait_for_end(deployment)
    wait_for(lambda: not device.state.jobs)
    assert deployment.state == "succeeded"
    assert deployment.late_reports == []
    assert device.is_running(three), device.log_text()
    assert device.stop() == 0
    device.assert_consistent()


@pytest.mark.parametrize(
    ("content", "explanation"),
    [
        (None, "did not write health.json to KERNEX_STATE_DIR"),
        ("ok", "`healthy` is true or false"),
        ('{"ok": true}', "`healthy` is true or false"),
    ],
)
def test_a_missing_or_invalid_health_file_is_explained(
    server: FakeServer, device: Device, content: str | None, explanation: str
) -> None:
    """The output of the previous release is not part of the explanation."""
    device.start()
    install(server, device, bundle.program("1", f"print('old output', flush=True)\n{bundle.GOOD}"))
    write = "" if content is None else f"open(os.environ['KERNEX_STATE_DIR'] + '/health.json', 'w').write({content!r})"
    deployment = server.deploy(bundle.program("2", f"import os, time\n{write}\ntime.sleep(600)\n", timeout=2))
    device.wait_for_end(deployment)
    assert (deployment.state, deployment.last["reason_code"]) == ("rolled_back", "health_timeout")
    assert explanation in deployment.last["message"]
    assert "old output" not in deployment.last["message"]


def test_a_crash_loop_fails_the_check_of_an_installed_release(server: FakeServer, device: Device) -> None:
    device.options |= {"CRASH_LOOP_STARTS": "3", "SETTLE_SECONDS": "2"}
    run = {"command": ["python3", "run.py"]}
    device.start()
    bundle_2 = bundle.make("2", {"run.py": FRAGILE}, run=run)
    install(server, device, bundle_1 := bundle.make("1", {"run.py": bundle.GOOD}, run=run), bundle_2)
    (device.state_dir / "broken").touch()
    wait_for(lambda: device.log_text().count("ended with exit code 3") == 2, 40, device.log_text)
    deployment = server.deploy(bundle_2)
    device.wait_for_end(deployment)
    assert (deployment.state, deployment.last["reason_code"]) == ("failed", "crash_loop")
    wait_for(lambda: device.is_running(bundle_1), 40, device.log_text)


@pytest.mark.parametrize("replace_file", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_files_that_a_program_replaced_are_not_copied(
    server: FakeServer, device: Device, replace_file: Callable[[Path], None]
) -> None:
    """Reading a pipe would block, and reading /dev/zero would never end."""
    device.start()
    more: dict[str, bytes | str] = {"model": "x" * 5000, "empty": ""}
    bundle_1, bundle_2 = bundle.program("1", more=more), bundle.program("2", more=more)
    install(server, device, bundle_1)
    for name in more:
        path = device.state_dir / "products/vad/releases" / bundle_1.sha256 / name
        path.unlink()
        replace_file(path)
    install(server, device, bundle_2, bundle_1)
    assert device.is_running(bundle_1)
    assert device.stop() == 0
    device.assert_consistent()


def test_directories_instead_of_the_agents_files_do_no_harm(server: FakeServer, device: Device) -> None:
    device.options |= {"CRASH_LOOP_STARTS": "2"}
    device.start()
    install(server, device, bundle.make("1", {"run.py": bundle.GOOD}, "zap", run={"command": ["python3", "run.py"]}))
    install(server, device, bundle_1 := bundle.program("1"), bundle.program("2", REPLACING_FILES))
    (other,) = device.pids("zap")
    (device.state_dir / "broken").touch()
    wait_for(lambda: "ended with exit code 3" in device.log_text(), 40, device.log_text)
    os.kill(other, signal.SIGKILL)
    wait_for(lambda: device.pids("zap") not in (set(), {other}), 40, device.log_text)
    wait_for(lambda: device.is_running(bundle_1), 40, device.log_text)
    assert device.stop() == 0
    device.assert_consistent()


def test_a_release_is_not_rolled_back_after_its_observation(server: FakeServer, device: Device) -> None:
    device.options |= {"CRASH_LOOP_STARTS": "1", "BAKE_SECONDS": "0"}
    device.start()
    install(server, device, bundle.program("1"), bundle_2 := bundle.program("2", FRAGILE))
    wait_for(lambda: not getattr(device.state.installed("vad").current, "is_observed", True))
    (device.state_dir / "broken").touch()
    wait_for(lambda: device.log_text().count("ended with exit code 3") >= 3, 40, device.log_text)
    assert device.current() == bundle_2.sha256


def test_a_program_does_not_see_the_agents_secrets(server: FakeServer, device: Device) -> None:
    device.options["PROXY"] = ""
    device.start()
    install(server, device, bundle.program("1", PRINTS_ENVIRONMENT + bundle.GOOD))
    (environment,) = device.state_dir.rglob("environment.json")
    text = environment.read_text()
    assert TOKEN not in text
    assert "KERNEX_AGENT" not in text
    assert '"KERNEX_PRODUCT": "vad"' in text


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(stop_grace_seconds=1)
    yield supervisor
    supervisor.stop_all()


def program(directory: Path, *command: str) -> Program:
    context = CommandContext(directory, directory, str(directory), "vad", "1", "python3")
    return Program(
        context, Run(command=command, environment={}), "0" * 64, directory, ProgramLog(directory / "vad.log")
    )


@pytest.mark.parametrize(
    ("script", "last_exit"),
    [("exit 3", "exit code 3"), ("kill -TERM $$", "signal 15"), ("kill -KILL $$", "signal 9")],
)
def test_the_exit_code_of_a_program_is_recorded(
    supervisor: Supervisor, tmp_path: Path, script: str, last_exit: str
) -> None:
    ending = program(tmp_path, "sh", "-c", f"echo the last line; {script}")
    supervisor.start(ending)
    wait_for(lambda: not ending.is_running)
    supervisor.poll()
    assert ending.last_exit == last_exit
    assert ending.log.last_output(100) == "the last line"


def test_a_program_is_not_blocked_by_a_log_that_cannot_be_written(supervisor: Supervisor, tmp_path: Path) -> None:
    script = f"while ! test -e go; do sleep 0.05; done; head -c {4 * MAX_FILE_SIZE} /dev/zero; touch printed; sleep 60"
    printing = program(tmp_path, "sh", "-c", script)
    supervisor.start(printing)
    printing.log.older.mkdir()
    (tmp_path / "go").touch()
    wait_for((tmp_path / "printed").exists)
    assert printing.log.path.stat().st_size <= MAX_FILE_SIZE


def test_restart_delays_grow_up_to_a_limit(supervisor: Supervisor, tmp_path: Path) -> None:
    failing = program(tmp_path, "false")
    supervisor.start(failing)
    delays = []
    for _ in range(9):
        wait_for(lambda: not failing.is_running)
        supervisor.poll()
        assert failing.retry_at is not None
        delays.append(failing.retry_at - time.monotonic())
        failing.retry_at = time.monotonic()
        supervisor.poll()
    assert all(0.7 < delay < 1.3 * LONGEST_DELAY_SECONDS for delay in delays)
    assert delays[3] > 3 * delays[0]
    assert failing.exits == 9


def test_a_program_that_cannot_start_is_retried(supervisor: Supervisor, tmp_path: Path) -> None:
    restarted = program(tmp_path, "./missing")
    supervisor.start_or_retry(restarted)
    assert "missing" in restarted.last_exit
    script = tmp_path / "missing"
    script.write_text("#!/bin/sh\nexec sleep 60\n")
    script.chmod(0o755)
    restarted.retry_at = time.monotonic()
    supervisor.poll()
    assert restarted.is_running
