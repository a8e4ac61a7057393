"""Whether a release is well: what its health command or its health file says."""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.atomic_files import read_limited
from agent.errors import InstallationFailed
from agent.manifest import Health
from agent.programs.execution import CannotStart, Place, run
from agent.programs.supervisor import Program

MAX_FILE_SIZE = 64 * 1024
MAX_VERDICT_SIZE = 4096
MAX_DEPTH = 16
MAX_NUMBER = 2**53
GATE_EXITS = 3
POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Verdict:
    """`details` is the program's own verdict, small and harmless enough to be sent on."""

    is_healthy: bool
    message: str = ""
    details: dict[str, Any] = field(default_factory=dict)


def read_file(path: Path) -> Verdict | None:
    """What a health file says; None if there is none, or it is only half written."""
    try:
        value = json.loads(read_limited(path, MAX_FILE_SIZE))
        is_healthy = value["healthy"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(is_healthy, bool):
        return None
    message, details = value.get("message", ""), value.get("verdict")
    return Verdict(is_healthy, message[:1000] if isinstance(message, str) else "", _harmless(details))


def _harmless(details: object) -> dict[str, Any]:
    """A verdict that every reader of JSON takes; one that is none, or is too large, is left out."""
    if not isinstance(details, dict) or not _is_plain(details, 1):
        return {}
    # Counted as the server does, which is not how it is sent.
    return details if len(json.dumps(details)) <= MAX_VERDICT_SIZE else {}


def _is_plain(value: object, depth: int) -> bool:
    if depth > MAX_DEPTH:
        return False
    if isinstance(value, str):
        return "\x00" not in value and not any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, int | float):
        return math.isfinite(value) and abs(value) <= MAX_NUMBER
    if isinstance(value, list):
        return all(_is_plain(item, depth + 1) for item in value)
    if isinstance(value, dict):
        return all(_is_plain(key, depth) and _is_plain(item, depth + 1) for key, item in value.items())
    return value is None


@dataclass(slots=True)
class Gate:
    """Wait until a release proves itself. `program` is None for a release without a run command.

    `poll` looks after the programs meanwhile; `settle_seconds` is how long a program without a health check has to run.
    """

    place: Place
    program: Program | None
    poll: Callable[[], None]
    settle_seconds: float
    exits_before: int = 0

    def __post_init__(self) -> None:
        self.exits_before = self.program.exits if self.program is not None else 0

    def wait(self, health: Health | None) -> Verdict:
        """The verdict of a healthy release.

        Raises `InstallationFailed`: `unhealthy`, `health_timeout`, `start_failed`, or `crash_loop` when the program
        ends again and again.
        """
        if health is None:
            return self._settle()
        gives_up_at = time.monotonic() + health.timeout_seconds
        return self._wait_file(health, gives_up_at) if health.file else self._wait_command(health, gives_up_at)

    def _settle(self) -> Verdict:
        while self.program is not None and self.program.uptime_seconds < self.settle_seconds:
            self._look()
        return Verdict(True)

    def _wait_file(self, health: Health, gives_up_at: float) -> Verdict:
        path = self.place.state_directory / health.file
        while time.monotonic() < gives_up_at:
            self._look()
            verdict = read_file(path)
            if verdict is not None and not verdict.is_healthy:
                raise InstallationFailed("unhealthy", f"The program says that it is not healthy. {_shown(verdict)}")
            if verdict is not None and (self.program is None or self.program.is_running):
                return verdict
        raise InstallationFailed("health_timeout", f"{_missed(path, health.timeout_seconds)} {self._output()}".strip())

    def _wait_command(self, health: Health, gives_up_at: float) -> Verdict:
        said = ""
        while (left := gives_up_at - time.monotonic()) > 0:
            self._look()
            try:
                result = run(health.command, self.place, left)
            except CannotStart as error:
                raise InstallationFailed("start_failed", f"The health command: {error}") from None
            said = f"exit code {result.exit_code}: {result.output}" if result.exit_code is not None else result.output
            if result.exit_code == 0 and (self.program is None or self.program.is_running):
                return Verdict(True, result.output)
            self._pause(min(health.interval_seconds, gives_up_at - time.monotonic()))
        raise InstallationFailed("health_timeout", f"Not healthy within {health.timeout_seconds} s; at last {said}")

    def _pause(self, seconds: float) -> None:
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            self._look()

    def _look(self) -> None:
        self.poll()
        if self.program is not None and self.program.exits - self.exits_before >= GATE_EXITS:
            raise InstallationFailed("crash_loop", f"The program ended with {self.program.last_exit}. {self._output()}")
        time.sleep(POLL_SECONDS)

    def _output(self) -> str:
        said = self.program.log.last_output(2048) if self.program is not None else ""
        return f"It said: {said}" if said else ""


def _missed(path: Path, seconds: int) -> str:
    """Why a health file did not count."""
    if not path.exists():
        return f"No health file within {seconds} s: {path.name} is not in KERNEX_STATE_DIR."
    if read_file(path) is None:
        return f'{path.name} is there, but does not say {{"healthy": true}} or false in JSON.'
    return f"{path.name} says that all is well, but the program did not run within {seconds} s."


def _shown(verdict: Verdict) -> str:
    return " ".join(part for part in (verdict.message, json.dumps(verdict.details) if verdict.details else "") if part)
