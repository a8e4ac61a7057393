"""The processes that `make run` starts: found and ended again, also after the runner itself was killed."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

GRACE_SECONDS = 20
PR_SET_PDEATHSIG = 1


class ChildFailed(Exception):
    """A process ended that should have stayed. The message says which, and the end of its log."""


def started_at(pid: int) -> str:
    """When a process was started, in the kernel's words; empty if there is none (or no /proc)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def _die_with_parent() -> None:
    """On Linux the kernel ends a child whose parent was killed; elsewhere the next run does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Children:
    """Started in order, ended in reverse. `record` is where a later run finds those that were left over."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.record = directory / "processes.json"
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def start(self, name: str, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        """Start a process in a group of its own, with its output in VAR/NAME.log."""
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=_die_with_parent,
            )  # fmt: skip
        self.adopt(name, process)
        return process

    def adopt(self, name: str, process: subprocess.Popen[bytes]) -> None:
        """Look after a process that somebody else started."""
        self.running[name] = process
        self._write()

    def check(self) -> None:
        """Raises `ChildFailed` if a process has ended."""
        for name, process in self.running.items():
            code = process.poll()
            if code is not None:
                raise ChildFailed(f"{name} ended with {code}. The end of {self.log(name)}:\n{self.tail(name)}")

    def tail(self, name: str, size: int = 1500) -> str:
        with suppress(OSError):
            return self.log(name).read_text(errors="replace")[-size:]
        return ""

    def stop(self) -> None:
        """End all, the last started first: asked by SIGTERM, killed after a grace."""
        for name, process in reversed(self.running.items()):
            # PostgreSQL takes SIGINT for what others do at SIGTERM: end sessions, write, go.
            process.send_signal(signal.SIGINT if name == "postgres" else signal.SIGTERM)
            try:
                process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                _kill_group(process.pid)
                process.wait()
        self.running.clear()
        with suppress(OSError):
            self.record.unlink()

    def end_left_over(self) -> int:
        """End what a killed runner left behind. A process id that went to another program is let be."""
        try:
            kept = json.loads(self.record.read_text())
        except (OSError, ValueError):
            return 0
        left = {
            name: child["pid"] for name, child in kept.items() if started_at(child["pid"]) == child["started_at"] != ""
        }
        for name, pid in reversed(left.items()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT if name == "postgres" else signal.SIGTERM)
            deadline = time.monotonic() + GRACE_SECONDS
            while started_at(pid) == kept[name]["started_at"] and time.monotonic() < deadline:
                time.sleep(0.1)
            _kill_group(pid)
        self.record.unlink(missing_ok=True)
        return len(left)

    def _write(self) -> None:
        kept = {
            name: {"pid": process.pid, "started_at": started_at(process.pid)} for name, process in self.running.items()
        }
        self.record.write_text(json.dumps(kept))


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
