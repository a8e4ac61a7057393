"""A program: a release's run command, with its process and its last exit."""

import json
import random
import subprocess
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from agent.atomic_files import create_directory, read_json, remove, write_atomically
from agent.machine import boot_id
from agent.manifest_parts import Run
from agent.programs import processes
from agent.programs.execution import CommandContext, wait_for_shim
from agent.programs.logs import ProgramLog
from agent.programs.shim import CannotStart, start_logged

FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 1.0, 60.0
STABLE_SECONDS = 60.0
RESTART_WINDOW_SECONDS = 600.0
MAX_RESTARTS = 10_000
MAX_RECORD_SIZE = 4096


@dataclass(slots=True)
class Program:
    """The run command of a product. `health_file` is removed before each start, so that it is never outdated.

    `directory` is the product's directory. Its `program.json` lets a later agent find the process. `shim` is None for a
    program that an earlier agent started: it is not a child of this process, so its exit code remains unknown.
    `start_time` is when the kernel started the process, in ticks since boot. `exits` is the number of exits, and
    `exit_times` lists the last ones. `retry_at` is when the program is restarted. A program that `is_crash_looping` is
    not restarted. Other times are those of the monotonic clock.
    """

    context: CommandContext
    run: Run
    release: str
    directory: Path
    log: ProgramLog
    health_file: Path | None = None
    shim: subprocess.Popen[bytes] | None = None
    pid: int = 0
    start_time: int = 0
    launched_at: float = 0.0
    exits: int = 0
    exit_times: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_RESTARTS))
    last_exit: str = ""
    retry_at: float | None = None
    delay: float = FIRST_DELAY_SECONDS
    is_crash_looping: bool = False

    @property
    def product(self) -> str:
        return self.context.product

    @property
    def is_running(self) -> bool:
        return self.pid != 0 and processes.is_alive(self.pid, self.start_time)

    @property
    def uptime_seconds(self) -> float:
        return time.monotonic() - self.launched_at if self.is_running else 0.0

    def all_processes(self) -> set[int]:
        """Return the program's processes and all their descendants, without the shim."""
        pids = processes.marked(self.context.mark)
        if self.is_running:
            pids |= processes.group(self.pid)
        return pids

    def launch(self) -> None:
        """Start the command. Raises `CannotStart`."""
        try:
            if self.health_file is not None:
                remove(self.health_file)
            create_directory(self.log.path.parent)
            if self.log.path.is_symlink() or not self.log.path.is_file():
                remove(self.log.path)  # a program may have put anything there
        except OSError as error:
            raise CannotStart(f"{self.product} cannot be started: {error}") from None
        child = start_logged(self.context.launch_request(self.run.command, self.run.environment), self.log)
        self.shim, self.pid = child.shim, child.pid
        self.start_time = processes.start_time(child.pid) or 0
        self.launched_at = time.monotonic()
        self.retry_at = None
        self._record()

    def adopt(self) -> bool:
        """Adopt the process that an earlier agent started. Return False if it no longer runs."""
        try:
            record = read_json(self.directory / "program.json", MAX_RECORD_SIZE)
            pid, start_time = int(record["pid"]), int(record["started"])
            is_ours = record["boot_id"] == boot_id() and record["release"] == self.release
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            return False
        if not is_ours or not processes.is_alive(pid, start_time):
            return False
        self.pid, self.start_time, self.launched_at = pid, start_time, time.monotonic()
        return True

    def terminate(self, grace_seconds: float) -> bool:
        """Terminate all processes of the program. Return False if some cannot be killed."""
        is_dead = processes.terminate(self.all_processes, grace_seconds)
        if self.shim is not None:
            wait_for_shim(self.shim)
        (self.directory / "program.json").unlink(missing_ok=True)
        return is_dead

    def record_exit(self) -> None:
        """Clean up after a program that exited on its own, and record its exit code."""
        processes.terminate(self.all_processes, 0)
        self.last_exit = "an unknown exit code"
        if self.shim is not None:
            code = wait_for_shim(self.shim)
            self.last_exit = f"exit code {code}" if code >= 0 else f"signal {-code}"
        self.shim, self.pid = None, 0
        if time.monotonic() - self.launched_at >= STABLE_SECONDS:
            self.delay = FIRST_DELAY_SECONDS
        self.count_exit()

    def count_exit(self) -> None:
        """Count an exit that the agent did not cause."""
        self.exits += 1
        self.exit_times.append(time.monotonic())

    def recent_exits(self) -> int:
        """Return how many exits were counted in the last 600 seconds, at most `MAX_RESTARTS`."""
        window_start = time.monotonic() - RESTART_WINDOW_SECONDS
        return sum(exit_time >= window_start for exit_time in self.exit_times.copy())

    def schedule_restart(self) -> None:
        """Set the time of the next start. The delay doubles with each exit and has jitter."""
        self.retry_at = time.monotonic() + self.delay * random.uniform(0.75, 1.25)  # noqa: S311
        self.delay = min(self.delay * 2, LONGEST_DELAY_SECONDS)

    def _record(self) -> None:
        """Write `program.json`. If that fails, a later agent terminates the program by its mark and restarts it."""
        record = {"pid": self.pid, "started": self.start_time, "boot_id": boot_id(), "release": self.release}
        with suppress(OSError):
            write_atomically(self.directory / "program.json", json.dumps(record).encode("ascii"))
