"""Keeps a release's program running: started, watched, restarted with growing pauses, stopped with its children."""

import json
import logging
import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from agent import processes
from agent.config import Config
from agent.manifest import Manifest
from agent.processes import Place

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
STEADY_SECONDS = 60.0
LOG_SIZE = 1024 * 1024


class Supervisor:
    """The program of one product, below `directory`."""

    def __init__(self, config: Config, directory: Path) -> None:
        self.config = config
        self.directory = directory
        self.output = directory / "output.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.manifest: Manifest | None = None
        self.place: Place | None = None
        self.ends: list[float] = []
        self.start_again_at = 0.0
        self.pause = FIRST_PAUSE_SECONDS

    @property
    def sha256(self) -> str:
        """Which release's program is meant to run; empty for none."""
        return self.manifest.sha256 if self.manifest else ""

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self, manifest: Manifest, place: Place) -> None:
        """Start a release's program, if it has one. Raises `OSError` if that is not possible."""
        self.stop()
        self.manifest, self.place = manifest, place
        self.ends, self.pause = [], FIRST_PAUSE_SECONDS
        if manifest.run:
            self._spawn()

    def stop(self) -> None:
        """End the program and all its children, also what an earlier agent that was killed left behind."""
        if self.process is not None:
            processes.kill_group(self.process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(self.config.stop_grace_seconds)
            processes.kill_group(self.process.pid, signal.SIGKILL)
            self.process.wait()
        processes.end_all(self.directory, self.config.stop_grace_seconds)
        self.process, self.manifest, self.place = None, None, None

    def tend(self) -> None:
        """Look after the program: note that it ended, start it again when its pause is over."""
        if self.manifest is None or not self.manifest.run or self.is_running:
            return
        now = time.monotonic()
        if self.process is not None:
            processes.kill_group(self.process.pid, signal.SIGKILL)  # children that outlived it
            log.warning("The program of %s ended with %s.", self.manifest.name, self.process.returncode)
            steady = bool(self.ends) and now - self.ends[-1] > STEADY_SECONDS
            self.pause = FIRST_PAUSE_SECONDS if steady else min(self.pause * 2, LONGEST_PAUSE_SECONDS)
            self.ends = [*self.ends[-99:], now]
            self.process = None
            self.start_again_at = now + self.pause * random.uniform(0.5, 1.0)  # noqa: S311 - only spreads load
        elif now >= self.start_again_at:
            try:
                self._spawn()
            except OSError as error:
                log.warning("The program of %s cannot be started: %s", self.manifest.name, error)
                self.start_again_at = now + LONGEST_PAUSE_SECONDS

    def ends_within(self, seconds: float) -> int:
        """How often the program ended lately."""
        return sum(1 for end in self.ends if time.monotonic() - end <= seconds)

    def output_tail(self) -> str:
        """The last lines that the program wrote."""
        with suppress(OSError), self.output.open("rb") as file:
            return processes.tail(file.fileno())
        return ""

    def _spawn(self) -> None:
        if self.manifest is None or self.place is None:
            return
        with suppress(OSError):
            if self.output.stat().st_size > LOG_SIZE:
                self.output.replace(self.output.with_suffix(".log.1"))
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                processes.arguments(self.config, self.place, self.manifest.run), cwd=self.place.release,
                env=processes.environment(self.place, self.manifest.environment), stdin=subprocess.DEVNULL,
                stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip


def read_health_file(path: Path) -> dict[str, object] | None:
    """What the program wrote about its health; None while there is nothing whole to read."""
    try:
        if path.stat().st_size > 64 * 1024:
            return None
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
