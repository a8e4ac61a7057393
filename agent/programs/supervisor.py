"""The programs that run on the device: started, kept running, stopped, and found again after a crash of the agent."""

import json
import logging
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from agent.atomic_files import make_directory, read_json, remove, write_atomically
from agent.machine import boot_id
from agent.manifest import Run
from agent.programs import processes
from agent.programs.execution import CannotStart, Place, has_ended, start
from agent.programs.logs import MAX_FILE_SIZE, ProgramLog

FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 1.0, 60.0
STABLE_SECONDS = 60.0

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Program:
    """One product's run command. `health_file` is removed before each start, so that it speaks of this start.

    `process` is None for a program that was adopted: it is nobody's child here, and its exit code stays unknown.
    `exits` counts the ends; `retry_at` is when it is started again.
    """

    place: Place
    run: Run
    release: str
    directory: Path
    log: ProgramLog
    health_file: Path | None = None
    process: subprocess.Popen[bytes] | None = None
    pid: int = 0
    started: int = 0
    since: float = 0.0
    exits: int = 0
    last_exit: str = ""
    retry_at: float | None = None
    delay: float = FIRST_DELAY_SECONDS

    @property
    def is_running(self) -> bool:
        if self.process is not None:
            return not has_ended(self.pid)
        return self.pid != 0 and processes.is_alive(self.pid, self.started)

    @property
    def uptime_seconds(self) -> float:
        return time.monotonic() - self.since if self.is_running else 0.0

    def family(self) -> set[int]:
        """The program and everything that came from it. Its group is believed only while its pid is surely its own."""
        found = processes.marked(self.place.mark)
        if self.process is not None or (self.pid and processes.is_alive(self.pid, self.started)):
            found |= processes.group(self.pid)
        return found


@dataclass(slots=True)
class Supervisor:
    """All programs of this device. `may_restart` is asked with the product before a program is started again."""

    stop_grace_seconds: float
    may_restart: Callable[[str], bool] = lambda _: True
    programs: dict[str, Program] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def find(self, product: str) -> Program | None:
        with self.lock:
            return self.programs.get(product)

    def start(self, program: Program) -> None:
        """Start a program and keep it running; what was left of another one is ended. Raises `CannotStart`."""
        self.sweep(program.place.mark)
        with self.lock:
            self._launch(program)
            self.programs[program.place.product] = program

    def keep(self, program: Program) -> None:
        """Start a program, now or as soon as it can be started."""
        try:
            self.start(program)
        except CannotStart as error:
            log.error("%s", error)
            program.last_exit = str(error)
            with self.lock:
                self._plan(program)
                self.programs[program.place.product] = program

    def adopt(self, program: Program) -> bool:
        """Go on with a program that an agent before us started, if it is of this release and surely still the same."""
        try:
            left = read_json(program.directory / "program.json", 4096)
            pid, started = int(left["pid"]), int(left["started"])
            is_same = left["boot_id"] == boot_id() and left["release"] == program.release
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            return False
        if not is_same or not processes.is_alive(pid, started):
            return False
        program.pid, program.started, program.since = pid, started, time.monotonic()
        with self.lock:
            self.programs[program.place.product] = program
        log.info("%s still runs as process %d.", program.place.product, pid)
        return True

    def stop(self, product: str) -> None:
        """Stop a program with everything it started. Harmless if it does not run."""
        with self.lock:
            program = self.programs.pop(product, None)
        if program is None:
            return
        if not processes.end(program.family, self.stop_grace_seconds):
            log.error("Processes of %s cannot be killed.", product)
        if program.process is not None:
            program.process.wait()
        (program.directory / "program.json").unlink(missing_ok=True)

    def stop_all(self) -> None:
        """Stop all programs at once, so that their times of grace run together."""
        with self.lock:
            names = list(self.programs)
        threads = [threading.Thread(target=self.stop, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def sweep(self, mark: str) -> None:
        """End what an agent that was killed left behind: programs, hooks and health commands with this mark."""
        processes.end(lambda: processes.marked(mark, with_commands=True), self.stop_grace_seconds)

    def sweep_commands(self, mark: str) -> None:
        """End hooks and health commands that outlived their agent."""
        processes.end(lambda: processes.marked(mark, with_commands=True) - processes.marked(mark), 0)

    def poll(self) -> None:
        """Notice what ended and start again what is due. To be called about twice a second."""
        with self.lock:
            for program in list(self.programs.values()):
                if program.retry_at is None and not program.is_running:
                    self._note_exit(program)
                elif program.retry_at is not None and time.monotonic() >= program.retry_at:
                    self._restart(program)
                _trim_log(program.log)

    def _note_exit(self, program: Program) -> None:
        processes.end(program.family, 0)
        if program.process is not None:
            code = program.process.wait()
            program.last_exit = f"exit code {code}" if code >= 0 else f"signal {-code}"
        else:
            program.last_exit = "an unknown exit code"
        program.process, program.pid = None, 0
        if time.monotonic() - program.since >= STABLE_SECONDS:
            program.delay = FIRST_DELAY_SECONDS
        program.exits += 1
        self._plan(program)
        log.warning("%s ended with %s.", program.place.product, program.last_exit)

    def _plan(self, program: Program) -> None:
        program.retry_at = time.monotonic() + program.delay * random.uniform(0.75, 1.25)  # noqa: S311
        program.delay = min(program.delay * 2, LONGEST_DELAY_SECONDS)

    def _restart(self, program: Program) -> None:
        if not self.may_restart(program.place.product):
            program.exits += 1  # whoever waits for it in a health gate must not wait for ever
            program.retry_at = time.monotonic() + FIRST_DELAY_SECONDS
            return
        try:
            self._launch(program)
        except CannotStart as error:
            program.exits += 1
            program.last_exit = str(error)
            self._plan(program)

    def _launch(self, program: Program) -> None:
        """Raises `CannotStart`."""
        try:
            if program.health_file is not None:
                remove(program.health_file)
            output = _open_log(program.log)
        except OSError as error:
            raise CannotStart(f"{program.place.product} cannot be started: {error}") from None
        try:
            program.process = start(program.run.command, program.place, program.run.environment, output)
        finally:
            os.close(output)
        program.pid = program.process.pid
        program.started = processes.start_time(program.pid) or 0
        program.since = time.monotonic()
        program.retry_at = None
        _remember(program)
        log.info("Started %s as process %d.", program.place.product, program.pid)


def _open_log(log: ProgramLog) -> int:
    """The program's log, to append to. What a program put in its place is removed."""
    make_directory(log.path.parent)
    if log.path.is_symlink() or not log.path.is_file():
        remove(log.path)
    return os.open(log.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _remember(program: Program) -> None:
    """Let a later agent find the program. A disk that is full must not stop it: the mark finds it, too."""
    left = {"pid": program.pid, "started": program.started, "boot_id": boot_id(), "release": program.release}
    with suppress(OSError):
        write_atomically(program.directory / "program.json", json.dumps(left).encode("ascii"))


def _trim_log(log: ProgramLog) -> None:
    """Keep a program's log bounded; the program goes on appending to the same file."""
    with suppress(OSError), log.path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if size > MAX_FILE_SIZE:
            file.seek(size - MAX_FILE_SIZE)
            log.older.write_bytes(file.read(MAX_FILE_SIZE))
            file.truncate(0)
