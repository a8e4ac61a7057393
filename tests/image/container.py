"""Run an image as an orchestrator does: not as root, read-only root file system, no capabilities, a memory limit.

The OCI runtime `runc` does the work. Containers use the machine's own network, to reach a PostgreSQL there.
"""

import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev.image import Builder

LIMIT_BYTES = 512 * 1024 * 1024
USER = 10001
START_SECONDS = 10


def _bind(source: Path, destination: str) -> dict[str, Any]:
    options = ["rbind", "rw", "nosuid", "nodev"]
    return {"destination": destination, "type": "bind", "source": str(source), "options": options}


def _tmpfs(destination: str, size: str) -> dict[str, Any]:
    options = ["nosuid", "nodev", "mode=1777", f"size={size}"]
    return {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options}


@dataclass
class Image:
    """An image: its files at `root`, and its configuration."""

    root: Path
    config: dict[str, Any]

    def specification(
        self, arguments: list[str], environment: dict[str, str], mounts: dict[str, Path], memory: int = LIMIT_BYTES
    ) -> dict[str, Any]:
        """The runtime's configuration of one container. `mounts`: paths in the container, and their sources outside."""
        user, group = self.config["User"].split(":")
        variables = [f"{name}={value}" for name, value in environment.items()]
        no_capabilities: dict[str, list[str]] = {
            kind: [] for kind in ("bounding", "effective", "inheritable", "permitted", "ambient")
        }
        return {
            "ociVersion": "1.0.0",
            "process": {
                "terminal": False, "user": {"uid": int(user), "gid": int(group)}, "noNewPrivileges": True,
                "args": [*self.config["Entrypoint"], *(arguments or self.config["Cmd"])],
                "capabilities": no_capabilities,
                "env": [*self.config["Env"], *variables], "cwd": self.config["WorkingDir"],
            },
            "root": {"path": str(self.root), "readonly": True},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755", "size=64k"]},
                _tmpfs("/dev/shm", "64m"), _tmpfs("/tmp", "256m"),
                *(_bind(source, destination) for destination, source in mounts.items()),
            ],
            "linux": {
                "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")],
                "resources": {"memory": {"limit": memory, "swap": memory}},
            },
        }  # fmt: skip


@dataclass
class Container:
    """A running container: its first process, whose output goes to `log`."""

    name: str
    state: Path
    log: Path
    process: subprocess.Popen[bytes]

    def runc(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["runc", "--root", str(self.state), *arguments], capture_output=True, text=True, check=False, timeout=120
        )

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run another program in the container, as health checks do."""
        return self.runc("exec", self.name, *command)

    def terminate(self) -> int:
        """Send SIGTERM. Return the exit code of the container's first process."""
        self.runc("kill", self.name, "TERM")
        return self.process.wait(60)

    def memory_peak(self) -> int:
        """The highest memory usage of the container so far, in bytes."""
        events = json.loads(self.runc("events", "--stats", self.name).stdout)
        return int(events["data"]["memory"]["usage"].get("max") or events["data"]["memory"]["usage"]["usage"])

    def text(self) -> str:
        return self.log.read_text(errors="replace")


@contextmanager
def unpacked(builder: Builder, name: str) -> Iterator[Image]:
    """Unpack the image's files into a directory, for containers to run on."""
    container = builder.run("from", "--pull-never", name)
    try:
        config = json.loads(builder.run("inspect", "--type", "image", name))["Docker"]["config"]
        yield Image(Path(builder.run("mount", container)), config)
    finally:
        builder.run("rm", container)


@contextmanager
def running(
    image: Image,
    directory: Path,
    arguments: list[str],
    environment: dict[str, str],
    mounts: dict[str, Path] | None = None,
) -> Iterator[Container]:
    """Run a container while the block runs. If it still runs at the end, kill it."""
    name = f"kernex-{secrets.token_hex(6)}"
    bundle = directory / name
    bundle.mkdir()
    (bundle / "config.json").write_text(json.dumps(image.specification(arguments, environment, mounts or {})))
    log, state = bundle / "log", directory / "runc"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["runc", "--root", str(state), "run", "--bundle", str(bundle), name],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    container = Container(name, state, log, process)
    try:
        yield container
    finally:
        if process.poll() is None:
            container.runc("kill", name, "KILL")
            process.wait(60)
        container.runc("delete", "--force", name)


def finished(
    image: Image,
    directory: Path,
    arguments: list[str],
    environment: dict[str, str],
    mounts: dict[str, Path] | None = None,
) -> tuple[int, str]:
    """Run a container until it exits. Return the exit code and the output."""
    with running(image, directory, arguments, environment, mounts) as container:
        return container.process.wait(240), container.text()


def until(condition: Callable[[], bool], container: Container, seconds: float = 90) -> None:
    """Wait until the condition holds. Fail if the container exits meanwhile."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert container.process.poll() is None, container.text()[-3000:]
        assert time.monotonic() < deadline, container.text()[-3000:]
        time.sleep(0.2)


def volume(directory: Path) -> Path:
    """Create a directory that belongs to the image's user."""
    directory.mkdir()
    os.chown(directory, USER, USER)
    return directory
