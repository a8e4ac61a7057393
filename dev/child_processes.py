"""The processes that `make run` starts. They are stopped when it exits, or by the next run if it was killed."""

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
    """A process failed. The message says which one, and ends with its output."""


def started_at(pid: int) -> str:
    """Return the kernel's start time of a process, or an empty string if the process or /proc does not exist."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def _die_with_parent() -> None:
    """Let the kernel terminate the child when its parent dies. On other systems, the next run stops it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class ChildProcesses:
    """Processes that are started in order and stopped in reverse. A later run finds leftovers in `record`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.record = directory / "processes.json"
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def log(self, name: str) -> Path:
        return self.directory / f"{name}.log"

    def start(self, name: str, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        """Start a process in a new process group. Its output goes to VAR/NAME.log."""
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=_die_with_parent,
            )  # fmt: skip
        self.adopt(name, process)
        return process

    def adopt(self, name: str, process: subprocess.Popen[bytes]) -> None:
        """Manage a process that was started elsewhere."""
        self.running[name] = process
        self._write()

    def check(self) -> None:
        """Raise `ChildFailed` if a process has exited."""
        for name, process in self.running.items():
            exit_code = process.poll()
            if exit_code is not None:
                raise ChildFailed(f"{name} exited with {exit_code}. The end of {self.log(name)}:\n{self.tail(name)}")

    def tail(self, name: str, size: int = 1500) -> str:
        with suppress(OSError):
            return self.log(name).read_text(errors="replace")[-size:]
        return ""

    def stop(self) -> None:
        """Stop all processes, the last started first: with SIGTERM, and with SIGKILL after GRACE_SECONDS."""
        for name, process in reversed(self.running.items()):
            # PostgreSQL's fast shutdown is SIGINT; on SIGTERM, it would wait for sessions to end.
            process.send_signal(signal.SIGINT if name == "postgres" else signal.SIGTERM)
            try:
                process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                _kill_group(process.pid)
                process.wait()
        self.running.clear()
        with suppress(OSError):
            self.record.unlink()

    def stop_leftovers(self) -> int:
        """Stop the processes of a killed run, and return their number. Reused process ids are left alone."""
        try:
            recorded = json.loads(self.record.read_text())
        except (OSError, ValueError):
            return 0
        leftover = {
            name: child["pid"]
            for name, child in recorded.items()
            if started_at(child["pid"]) == child["started_at"] != ""
        }
        for name, pid in reversed(leftover.items()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT if name == "postgres" else signal.SIGTERM)
            deadline = time.monotonic() + GRACE_SECONDS
            while started_at(pid) == recorded[name]["started_at"] and time.monotonic() < deadline:
                time.sleep(0.1)
            _kill_group(pid)
        self.record.unlink(missing_ok=True)
        return len(leftover)

    def _write(self) -> None:
        processes = {
            name: {"pid": process.pid, "started_at": started_at(process.pid)} for name, process in self.running.items()
        }
        self.record.write_text(json.dumps(processes))


def _kill_group(pid: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
