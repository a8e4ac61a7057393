"""A device for tests: the real agent as a process, and its state directory."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from agent.jobs.encoding import decode
from agent.jobs.journal import Journal
from agent.jobs.state import State
from agent.manifest import parse
from agent.programs import processes
from tests.agent.bundle import Bundle
from tests.agent.server import TOKEN, DeviceDeployment, FakeServer

ROOT = Path(__file__).resolve().parent.parent.parent
FAST = {"BACKOFF_SECONDS": "1", "BACKOFF_LIMIT_SECONDS": "1", "STOP_GRACE_SECONDS": "2", "SETTLE_SECONDS": "1"}


def wait_for(condition: Callable[[], object], seconds: float = 30, explain: Callable[[], object] = lambda: "") -> None:
    """Wait until `condition` returns a true value. On a timeout, fail with the text that `explain` returns."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, explain()
        time.sleep(0.02)


@dataclass
class Device:
    """One machine: a state directory and, after `start`, a running agent."""

    server: FakeServer
    state_dir: Path
    options: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        options = {
            "SERVER": self.server.url, "TOKEN": TOKEN, "STATE_DIR": str(self.state_dir), "DEVICE_TYPE": "edge",
            "NAME": "test", "PYTHON": sys.executable, **FAST, **self.options,
        }  # fmt: skip
        return {"PATH": os.environ["PATH"], **{f"KERNEX_AGENT_{name}": value for name, value in options.items()}}

    @property
    def log(self) -> Path:
        return self.state_dir.with_suffix(".log")

    def run(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run one command of the agent until it exits."""
        command = [sys.executable, "-m", "agent", *arguments]
        completed = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        with self.log.open("a") as log:
            log.write(completed.stderr)
        return completed

    def once(self, exit_code: int = 0) -> None:
        """Run `kernex-agent once` and check its exit code."""
        completed = self.run("once")
        assert completed.returncode == exit_code, completed.stderr

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "agent", "run"], cwd=ROOT, env=self.environment, stdout=log, stderr=log
            )

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        assert self.process is not None
        self.process.terminate()
        code = self.process.wait(30)
        self.process = None
        return code

    def kill(self) -> None:
        """Kill the agent. Its programs continue to run."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def wait_for_end(self, deployment: DeviceDeployment, seconds: float = 40) -> dict[str, Any]:
        """Wait until a deployment has ended, and return its last report."""
        wait_for(lambda: deployment.is_finished, seconds, self.log_text)
        return deployment.last

    def log_text(self) -> str:
        return self.log.read_text()[-6000:] if self.log.exists() else ""

    def clean_up(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        for product in self.products():
            processes.terminate(partial(processes.marked, str(product), with_commands=True), 0)

    @property
    def state(self) -> State:
        return decode((self.state_dir / "journal.json").read_bytes()).state

    def journal(self) -> Journal:
        return Journal(self.state_dir)

    def products(self) -> list[Path]:
        directory = self.state_dir / "products"
        return sorted(directory.iterdir()) if directory.is_dir() else []

    def current(self, product: str = "vad") -> str:
        """Return the sha256 of the release that `current` points to, or an empty string."""
        link = self.state_dir / "products" / product / "current"
        return link.readlink().name if link.is_symlink() else ""

    def pids(self, product: str = "vad") -> set[int]:
        """Return the processes of a product."""
        return processes.marked(str(self.state_dir / "products" / product))

    def is_running(self, bundle: Bundle) -> bool:
        """Return whether all processes of a product run in the directory of this bundle's release."""
        directories = set()
        for pid in self.pids(bundle.name):
            with suppress(FileNotFoundError):  # the process has exited
                directories.add(str(Path(f"/proc/{pid}/cwd").readlink()))
        return directories == {str(self.state_dir / "products" / bundle.name / "releases" / bundle.sha256)}

    def size(self) -> int:
        """Return the size of the state directory in bytes, without logs."""
        files = [path for path in self.state_dir.rglob("*") if path.is_file() and not path.is_symlink()]
        return sum(path.stat().st_size for path in files if path.suffix not in {".log", ".1"})

    def assert_consistent(self) -> None:
        """Assert that the state directory of an idle device is consistent."""
        for product in self.products():
            current = self.current(product.name)
            if current:
                assert_complete(product / "releases" / current)
            committed = self.state.installed(product.name)
            assert current == (committed.current.manifest_sha256 if committed.current else "")
            wanted = {release.manifest_sha256 for release in (committed.current, committed.previous) if release}
            manifests = {path.name.removesuffix(".json") for path in (product / "releases").iterdir()}
            assert manifests == wanted
            assert not (product / "staging").exists()
        assert list((self.state_dir / "blobs").iterdir()) == []
        assert list((self.state_dir / "trash").iterdir()) == []
        assert self.state.jobs == []
        unfinished = [str(path.relative_to(self.state_dir)) for path in self.state_dir.rglob("*.new")]
        unfinished = [path for path in unfinished if "/state/" not in path]  # those are files of programs
        assert unfinished == [], unfinished


def assert_complete(release: Path) -> None:
    """Assert that a release has exactly the files that its manifest lists."""
    body = release.with_name(release.name + ".json").read_bytes()
    assert hashlib.sha256(body).hexdigest() == release.name
    manifest = parse(body)
    paths = {str(path.relative_to(release)) for path in release.rglob("*") if path.is_file()}
    assert paths == {file.path for file in manifest.files}
    for file in manifest.files:
        path = release / file.path
        assert hashlib.sha256(path.read_bytes()).hexdigest() == file.sha256
        assert path.stat().st_mode & 0o777 == file.mode
        assert path.stat().st_nlink == 1, "another file is a hard link to a file of the release"


def as_json(text: str) -> Any:
    return json.loads(text)
