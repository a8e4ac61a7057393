"""Whether a release is healthy: what its health command or its health file says."""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agent.atomic_files import read_limited
from agent.errors import InstallationFailed
from agent.manifest import Health
from agent.programs.execution import CommandContext, CommandResult, run
from agent.programs.logs import failure_message
from agent.programs.program import Program
from agent.programs.shim import CannotStart

MAX_FILE_SIZE = 64 * 1024
MAX_MESSAGE_LENGTH = 1000
MAX_VERDICT_SIZE = 4096
MAX_DEPTH = 16
MAX_NUMBER = 2**53
# So many ends of a program while it is being checked are a crash loop.
MAX_EXITS = 3
OUTPUT_SIZE = 4096
POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class HealthReport:
    """What a release says about itself. `verdict` holds the program's own numbers, small enough to be reported."""

    is_healthy: bool
    message: str = ""
    verdict: Mapping[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        verdict = json.dumps(self.verdict, ensure_ascii=False) if self.verdict else ""
        return "\n".join(part for part in (self.message, verdict) if part)


def read_file(path: Path) -> HealthReport | None:
    """Return what a health file says; None if it does not exist or is only half written."""
    try:
        value = json.loads(read_limited(path, MAX_FILE_SIZE))
        is_healthy = value["healthy"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(is_healthy, bool):
        return None
    message = value.get("message", "")
    text = message[:MAX_MESSAGE_LENGTH] if isinstance(message, str) else ""
    return HealthReport(is_healthy, text, _portable(value.get("verdict")))


def _portable(verdict: object) -> Mapping[str, object]:
    """Return a verdict that every JSON reader accepts; an empty one if it is too large or not an object."""
    if not isinstance(verdict, dict) or not _is_plain(verdict, 1):
        return {}
    # The size is counted as the server counts it, which is not how it is sent.
    return verdict if len(json.dumps(verdict)) <= MAX_VERDICT_SIZE else {}


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


class HealthGate:
    """Waits until a release proves that it is healthy.

    `program` is None for a release without a run command. `poll` looks after all programs meanwhile. `settle_seconds`
    is how long a program without a health check has to run.
    """

    def __init__(
        self, context: CommandContext, program: Program | None, poll: Callable[[], None], settle_seconds: float
    ) -> None:
        self.context = context
        self.program = program
        self.poll = poll
        self.settle_seconds = settle_seconds
        self._exits_before = program.exits if program is not None else 0

    def wait(self, health: Health | None) -> HealthReport:
        """Return what the healthy release says.

        Raises:
            InstallationFailed: `unhealthy`, `health_timeout`, `start_failed`, or `crash_loop` if it keeps ending.
        """
        if health is None:
            return self._settle()
        gives_up_at = time.monotonic() + health.timeout_seconds
        return self._wait_for_file(health, gives_up_at) if health.file else self._wait_for_command(health, gives_up_at)

    @property
    def _is_running(self) -> bool:
        return self.program is None or self.program.is_running

    def _settle(self) -> HealthReport:
        while self.program is not None and self.program.uptime_seconds < self.settle_seconds:
            self._poll()
        return HealthReport(True)

    def _wait_for_file(self, health: Health, gives_up_at: float) -> HealthReport:
        path = self.context.state_directory / health.file
        while time.monotonic() < gives_up_at:
            self._poll()
            report = read_file(path)
            if report is not None and not report.is_healthy:
                raise self._failure("unhealthy", f"The program reports that it is not healthy. {report}".strip())
            if report is not None and self._is_running:
                return report
        raise self._failure("health_timeout", _explanation(path, health.timeout_seconds))

    def _wait_for_command(self, health: Health, gives_up_at: float) -> HealthReport:
        last: CommandResult | None = None
        while (left := gives_up_at - time.monotonic()) > 0:
            self._poll()
            try:
                last = run(health.command, self.context, left)
            except CannotStart as error:
                raise InstallationFailed("start_failed", f"The health command: {error}") from None
            if last.exit_code == 0 and self._is_running:
                return HealthReport(True, last.output)
            self._pause(min(health.interval_seconds, gives_up_at - time.monotonic()))
        raise self._command_failure(health, last)

    def _command_failure(self, health: Health, last: CommandResult | None) -> InstallationFailed:
        reason = f"Not healthy within {health.timeout_seconds} s."
        if last is not None and last.exit_code == 0:
            return self._failure("health_timeout", f"{reason} The health command succeeded; the program does not run.")
        if last is not None and last.exit_code is not None:
            reason += f" The health command ended with exit code {last.exit_code}."
        output = last.output if last is not None else ""
        return InstallationFailed("health_timeout", failure_message(reason, output))

    def _pause(self, seconds: float) -> None:
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            self._poll()

    def _poll(self) -> None:
        self.poll()
        program = self.program
        if program is not None and (program.is_given_up or program.exits - self._exits_before >= MAX_EXITS):
            raise self._failure("crash_loop", f"The program keeps ending, now with {program.last_exit}.")
        time.sleep(POLL_SECONDS)

    def _failure(self, reason_code: str, reason: str) -> InstallationFailed:
        """Return an error that ends with the last lines that the program printed."""
        output = self.program.log.last_output(OUTPUT_SIZE) if self.program is not None else ""
        return InstallationFailed(reason_code, failure_message(reason, output))


def _explanation(path: Path, seconds: int) -> str:
    """Return why a health file did not count."""
    if not path.exists():
        return f"No health file within {seconds} s: {path.name} is not in KERNEX_STATE_DIR."
    if read_file(path) is None:
        return f'{path.name} exists, but does not say {{"healthy": true}} or false in JSON.'
    return f"{path.name} says that the program is healthy, but it was not running within {seconds} s."
