"""Runs an image as an orchestrator would: not root, read-only root file system, no capabilities, a memory limit.

The OCI runtime `runc` does the work; the network is the machine's own, so that a PostgreSQL beside it is reached.
"""

import json
import secrets
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev.image import Builder

LIMIT_BYTES = 512 * 1024 * 1024
START_SECONDS = 10


def _bind(source: Path, destination: str) -> dict[str, Any]:
    options = ["rbind", "rw", "nosuid", "nodev"]
    return {"destination": destination, "type": "bind", "source": str(source), "options": options}


def _tmpfs(destination: str, size: str) -> dict[str, Any]:
    options = ["nosuid", "nodev", "mode=1777", f"size={size}"]
    return {"destination": destination, "type": "tmpfs", "source": "tmpfs", "options": options}


@dataclass
class Image:
    """An image with its files unpacked at `root`, and what it says of itself."""

    root: Path
    said: dict[str, Any]

    def specification(
        self, words: list[str], environment: dict[str, str], mounts: dict[str, Path], memory: int = LIMIT_BYTES
    ) -> dict[str, Any]:
        """The runtime's configuration for one container. `mounts`: where in the container, from where outside."""
        user, group = self.said["User"].split(":")
        given = [f"{name}={value}" for name, value in environment.items()]
        nothing: dict[str, list[str]] = {
            kind: [] for kind in ("bounding", "effective", "inheritable", "permitted", "ambient")
        }
        return {
            "ociVersion": "1.0.0",
            "process": {
                "terminal": False, "user": {"uid": int(user), "gid": int(group)}, "noNewPrivileges": True,
                "args": [*self.said["Entrypoint"], *(words or self.said["Cmd"])], "capabilities": nothing,
                "env": [*self.said["Env"], *given], "cwd": self.said["WorkingDir"],
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
    """One running container. Its process is the container's first; output goes to `log`."""

    name: str
    state: Path
    log: Path
    process: subprocess.Popen[bytes]

    def runc(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["runc", "--root", str(self.state), *words], capture_output=True, text=True, check=False, timeout=120
        )

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A further program in the container, as health checks are run."""
        return self.runc("exec", self.name, *command)

    def terminate(self) -> int:
        """The order to stop. Returns the exit code of the container's first process."""
        self.runc("kill", self.name, "TERM")
        return self.process.wait(60)

    def memory_peak(self) -> int:
        """The most memory, in bytes, that the container had at once."""
        told = json.loads(self.runc("events", "--stats", self.name).stdout)
        return int(told["data"]["memory"]["usage"].get("max") or told["data"]["memory"]["usage"]["usage"])

    def text(self) -> str:
        return self.log.read_text(errors="replace")


@contextmanager
def unpacked(builder: Builder, name: str) -> Iterator[Image]:
    """The image's files in a directory, for containers to run on."""
    container = builder.run("from", "--pull-never", name)
    try:
        said = json.loads(builder.run("inspect", "--type", "image", name))["Docker"]["config"]
        yield Image(Path(builder.run("mount", container)), said)
    finally:
        builder.run("rm", container)


@contextmanager
def running(
    image: Image, directory: Path, words: list[str], environment: dict[str, str], mounts: dict[str, Path] | None = None
) -> Iterator[Container]:
    """A container while the block runs; killed at its end if it runs still."""
    name = f"kernex-{secrets.token_hex(6)}"
    bundle = directory / name
    bundle.mkdir()
    (bundle / "config.json").write_text(json.dumps(image.specification(words, environment, mounts or {})))
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
    image: Image, directory: Path, words: list[str], environment: dict[str, str], mounts: dict[str, Path] | None = None
) -> tuple[int, str]:
    """Run a container to its end. Returns the exit code and what it printed."""
    with running(image, directory, words, environment, mounts) as container:
        return container.process.wait(240), container.text()


def until(is_so: Any, container: Container, seconds: float = 90) -> None:
    """Wait until `is_so()`; the container must stay."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert container.process.poll() is None, container.text()[-3000:]
        assert time.monotonic() < deadline, container.text()[-3000:]
        time.sleep(0.2)
