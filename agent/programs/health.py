"""The health gate of an installation: a release has to become healthy in time."""

import time
from collections.abc import Callable
from pathlib import Path

from agent.errors import InstallationFailed
from agent.manifest_parts import Health, HealthURL
from agent.programs.execution import CommandContext, CommandResult, run
from agent.programs.health_checks import check_url
from agent.programs.health_reports import HealthReport, read_file
from agent.programs.logs import failure_message
from agent.programs.program import Program
from agent.programs.shim import CannotStart

# A program that exits this often during the health check is in a crash loop.
MAX_EXITS = 3
OUTPUT_SIZE = 4096
POLL_SECONDS = 0.1


class HealthGate:
    """Waits until a release is healthy.

    `program` is None for a release without a run command. `supervise` is called at short intervals and restarts
    programs that have exited. `settle_seconds` is how long a program without a health check has to run.
    """

    def __init__(
        self, context: CommandContext, program: Program | None, supervise: Callable[[], None], settle_seconds: float
    ) -> None:
        self.context = context
        self.program = program
        self.supervise = supervise
        self.settle_seconds = settle_seconds
        self._exits_before = program.exits if program is not None else 0

    def wait(self, health: Health | None) -> HealthReport:
        """Return the report of the healthy release.

        Raises:
            InstallationFailed: `unhealthy`, `health_timeout`, `start_failed`, or `crash_loop` if it exits repeatedly.
        """
        if health is None:
            return self._settle()
        deadline = time.monotonic() + health.timeout_seconds
        if health.file:
            return self._wait_for_file(health, deadline)
        if health.http is not None:
            return self._wait_for_url(health, health.http, deadline)
        return self._wait_for_command(health, deadline)

    @property
    def _is_running(self) -> bool:
        return self.program is None or self.program.is_running

    def _settle(self) -> HealthReport:
        while self.program is not None and self.program.uptime_seconds < self.settle_seconds:
            self._tick()
        return HealthReport(True)

    def _wait_for_file(self, health: Health, deadline: float) -> HealthReport:
        path = self.context.state_directory / health.file
        while time.monotonic() < deadline:
            self._tick()
            report = read_file(path)
            if report is not None and not report.is_healthy:
                raise self._failure("unhealthy", f"The program reports that it is not healthy. {report}".strip())
            if report is not None and self._is_running:
                return report
        raise self._failure("health_timeout", _explanation(path, health.timeout_seconds))

    def _wait_for_command(self, health: Health, deadline: float) -> HealthReport:
        last: CommandResult | None = None
        while (remaining := deadline - time.monotonic()) > 0:
            self._tick()
            try:
                last = run(health.command, self.context, remaining)
            except CannotStart as error:
                raise InstallationFailed("start_failed", f"The health command cannot run: {error}") from None
            if last.exit_code == 0 and self._is_running:
                return HealthReport(True, last.output)
            self._pause(min(health.interval_seconds, deadline - time.monotonic()))
        raise self._command_failure(health, last)

    def _wait_for_url(self, health: Health, url: HealthURL, deadline: float) -> HealthReport:
        reason = f"The release was not healthy within {health.timeout_seconds} s."
        last: HealthReport | None = None
        while (remaining := deadline - time.monotonic()) > 0:
            self._tick()
            last = check_url(url, remaining)
            if last.is_healthy and self._is_running:
                return last
            self._pause(min(health.interval_seconds, deadline - time.monotonic()))
        if last is not None:
            reason += f" {url} responds, but the program is down." if last.is_healthy else f" {last.message}"
        raise self._failure("health_timeout", reason)

    def _command_failure(self, health: Health, last: CommandResult | None) -> InstallationFailed:
        reason = f"The release was not healthy within {health.timeout_seconds} s."
        if last is not None and last.exit_code == 0:
            return self._failure("health_timeout", f"{reason} The health command succeeded, but the program is down.")
        if last is not None and last.exit_code is not None:
            reason += f" The health command ended with exit code {last.exit_code}."
        output = last.output if last is not None else ""
        return InstallationFailed("health_timeout", failure_message(reason, output))

    def _pause(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._tick()

    def _tick(self) -> None:
        """Supervise all programs, then wait a moment. Raises `InstallationFailed` if this program crash-loops."""
        self.supervise()
        program = self.program
        if program is not None and (program.is_crash_looping or program.exits - self._exits_before >= MAX_EXITS):
            raise self._failure("crash_loop", f"The program exits repeatedly, most recently with {program.last_exit}.")
        time.sleep(POLL_SECONDS)

    def _failure(self, reason_code: str, reason: str) -> InstallationFailed:
        """Return an error whose message ends with the last lines of the program's output."""
        output = self.program.log.last_output(OUTPUT_SIZE) if self.program is not None else ""
        return InstallationFailed(reason_code, failure_message(reason, output))


def _explanation(path: Path, seconds: int) -> str:
    """Return why a health file was not sufficient."""
    if not path.exists():
        return f"The program did not write {path.name} to KERNEX_STATE_DIR within {seconds} s."
    if read_file(path) is None:
        return f"{path.name} must be a JSON object in which `healthy` is true or false."
    return f"{path.name} says that the program is healthy, but it was not running within {seconds} s."
