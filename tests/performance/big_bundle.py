"""Push and deploy one big bundle, while the server and the agent are killed midway.

    python -m tests.performance.big_bundle [--size MIB]

It starts PostgreSQL, gunicorn (2 workers), the scheduler and a real agent, and pushes one bundle of `--size` MiB (2048
by default). It kills the web server during the upload, then the agent and again the web server during the download.
It prints how far the memory of each process rose above its idle level, the total PSS of the control plane and the RSS
of the idle agent. It exits with 1 if the bundle does not arrive.
"""

import argparse
import os
import re
import secrets
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from psycopg import sql

from dev.postgres import APP, Postgres
from tests.live import ROOT, Live, running

MIB = 1024 * 1024
PATIENCE_SECONDS = 900
POLL_SECONDS = 0.05


def tree(pid: int) -> list[int]:
    """Return `pid` and the ids of all its descendants."""
    pids = [pid]
    for parent in pids:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            with suppress(OSError):
                pids += [int(child) for child in children.read_text().split()]
    return pids


def memory(pid: int, line: str) -> int:
    """Return a figure of /proc/PID/status or smaps_rollup in bytes, or 0 if the process has exited."""
    file = "smaps_rollup" if line == "Pss" else "status"
    with suppress(OSError):
        match = re.search(rf"^{line}:\s+(\d+) kB", Path(f"/proc/{pid}/{file}").read_text(), re.MULTILINE)
        return int(match[1]) * 1024 if match else 0
    return 0


class MemoryWatch(threading.Thread):
    """Samples the memory of `roots` and their descendants. `rise` is the peak above the first sample."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.roots: dict[str, int] = {}
        self.first: dict[tuple[str, int], int] = {}
        self.rise: dict[str, int] = {}

    def run(self) -> None:
        while True:
            for name, root in list(self.roots.items()):
                for pid in tree(root):
                    size = memory(pid, "VmRSS")
                    above = size - self.first.setdefault((name, pid), size)
                    self.rise[name] = max(self.rise.get(name, 0), above)
            time.sleep(POLL_SECONDS)


def wait_until(event: str, condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"FAILED: {event} did not happen within {PATIENCE_SECONDS} s")
        time.sleep(POLL_SECONDS)


def bytes_under(directory: Path) -> int:
    """Return the disk usage of the files under `directory` in bytes."""
    total = 0
    for path in directory.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_blocks * 512 if path.is_file() else 0
    return total


def create_bundle(directory: Path, size: int) -> None:
    """Create a bundle directory with one file of `size` random bytes and a trivial health check."""
    directory.mkdir()
    block = os.urandom(MIB)
    with (directory / "model.bin").open("wb") as file:
        for number in range(size // MIB):
            file.write(number.to_bytes(8, "big") + block[8:])
    (directory / "kernex.json").write_text('{"health": {"command": ["true"], "timeout_seconds": 10}}')


@contextmanager
def database(directory: Path) -> Iterator[None]:
    """Run a separate PostgreSQL, and set the environment variables that `tests.live` reads."""
    with Postgres(directory) as server:
        with psycopg.connect(server.admin_url, autocommit=True) as admin:
            admin.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                    sql.Identifier(APP), sql.Literal(server.passwords.app)
                )
            )
        os.environ |= {"KERNEX_TEST_ADMIN_URL": server.admin_url, "DATABASE_URL": server.app_url}
        yield


def start_agent(live: Live, state: Path) -> subprocess.Popen[bytes]:
    environment = {
        "PATH": os.environ["PATH"], "KERNEX_AGENT_SERVER": live.url, "KERNEX_AGENT_STATE_DIR": str(state),
        "KERNEX_AGENT_TOKEN": live.enrolment_token(), "KERNEX_AGENT_DEVICE_TYPE": "edge",
    }  # fmt: skip
    with (state.parent / "agent.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "agent", "run"], cwd=ROOT, env=environment, stdout=log, stderr=log
        )


def push(live: Live, bundle: Path) -> subprocess.Popen[bytes]:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(bundle.parent),
        "KERNEX_SERVER": live.url,
        "KERNEX_TOKEN": live.token,
    }
    command = [sys.executable, "-m", "kernex_cli", "push", str(bundle), "--name", "big", "--version", "1"]
    return subprocess.Popen(command, cwd=ROOT, env=environment)


def measure(live: Live, directory: Path, size: int) -> None:
    watch = MemoryWatch()
    watch.start()
    assert live.web is not None
    assert live.scheduler is not None
    state, storage = directory / "agent", directory / "storage"
    agent = start_agent(live, state)
    wait_until("the registration of the device", lambda: live.call("GET", "/devices").json()["results"])
    time.sleep(5)
    print(f"idle agent RSS            {memory(agent.pid, 'VmRSS') / MIB:7.1f} MiB")
    watch.roots |= {"web": live.web.pid, "scheduler": live.scheduler.pid, "agent": agent.pid}

    started_at = time.monotonic()
    pushing = push(live, directory / "bundle")
    watch.roots["push"] = pushing.pid  # watched from its start, so that its rise includes its imports
    wait_until("half of the upload", lambda: bytes_under(storage) > size // 2)
    live.kill_web()
    live.start_web()
    watch.roots["web"] = live.web.pid
    if pushing.wait(PATIENCE_SECONDS):
        raise SystemExit("FAILED: kernex push")
    print(f"pushed in                 {time.monotonic() - started_at:7.1f} s, server killed once midway")

    started_at = time.monotonic()
    devices = [device["id"] for device in live.call("GET", "/devices").json()["results"]]
    deployment = live.call("POST", "/deployments", {"bundle": "big@1", "devices": devices, "groups": []}).json()
    wait_until("a third of the download", lambda: bytes_under(state) > size // 3)
    agent.kill()
    agent.wait()
    kept = bytes_under(state)
    agent = start_agent(live, state)
    watch.roots["agent"] = agent.pid
    wait_until("two thirds of the download", lambda: bytes_under(state) > size * 2 // 3)
    live.kill_web()
    time.sleep(2)
    live.start_web()
    watch.roots["web"] = live.web.pid
    wait_until(
        "the deployment's end",
        lambda: live.call("GET", f"/deployments/{deployment['id']}").json()["state"] == "finished",
    )
    counts = live.call("GET", f"/deployments/{deployment['id']}").json()["counts"]
    outcome = {state: count for state, count in counts.items() if count}
    print(f"deployed in               {time.monotonic() - started_at:7.1f} s, agent and server killed once: {outcome}")
    print(f"kept when the agent was killed {kept / MIB:6.0f} of {size // MIB} MiB")
    for name, rise in sorted(watch.rise.items()):
        print(f"memory above idle, {name:10} {rise / MIB:5.1f} MiB at most in one process")
    pids = tree(live.web.pid) + tree(live.scheduler.pid)
    print(f"PSS of web and scheduler  {sum(memory(pid, 'Pss') for pid in pids) / MIB:7.1f} MiB")
    agent.terminate()
    agent.wait()
    if counts.get("succeeded") != 1:
        raise SystemExit("FAILED: the device did not succeed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=2048, metavar="MIB", help="size of the bundle (default: 2048 MiB)")
    size = parser.parse_args().size * MIB
    os.environ.setdefault("SECRET_KEY", secrets.token_hex(32))
    with tempfile.TemporaryDirectory(prefix="kernex-big-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        create_bundle(directory / "bundle", size)
        with database(directory / "postgres"), running(directory) as live:
            (directory / "agent").mkdir()
            measure(live, directory, size)


if __name__ == "__main__":
    main()
