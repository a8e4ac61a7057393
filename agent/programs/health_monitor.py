"""The health of committed releases, checked at intervals until they are replaced."""

import logging
import threading
import time
from collections.abc import Callable

from agent.manifest_parts import Health
from agent.programs.execution import CommandContext
from agent.programs.health_checks import check, interval_seconds
from agent.programs.health_reports import HealthReport
from agent.programs.program import Program

TICK_SECONDS = 0.5
STOP_SECONDS = 30.0
NO_RESULT = HealthReport(False, "The health check has no result yet.")

logger = logging.getLogger(__name__)


class HealthMonitor:
    """The health of one committed release. A thread repeats its health check, so checks never overlap.

    `program` is None for a release without a run command. `gate_report` is the result of the health gate. Without it,
    the release is checked immediately, and counts as healthy for one interval while its program runs. After each
    restart of the program, the release is checked immediately, and is not healthy until it has passed.
    """

    def __init__(
        self,
        release: str,
        context: CommandContext,
        health: Health | None,
        program: Program | None,
        gate_report: HealthReport | None = None,
    ) -> None:
        self.release = release
        self.context = context
        self.health = health
        self.program = program
        self._stopped = threading.Event()
        self._final_report: HealthReport | None = None
        self._process = self._current_process()
        self._report = gate_report
        self._interval_seconds = interval_seconds(health) if health is not None else 0
        self._check_at = time.monotonic() + (self._interval_seconds if gate_report is not None else 0)
        self._unknown_until = time.monotonic() + self._interval_seconds
        self._thread = threading.Thread(target=self._run, name=f"health of {context.product}", daemon=True)

    def start(self) -> None:
        """Start checking. Without a health check, the release is healthy while its program runs."""
        if self.health is not None:
            self._thread.start()

    def suspend(self) -> None:
        """Stop checking, terminate the current check, and keep the last result."""
        if self._final_report is None:
            self._final_report = self.latest()
        self._stopped.set()

    def wait(self) -> None:
        """Wait until the current check has ended. Do not wait for a hanging request, which leaves no process behind."""
        if self._thread.is_alive() and self.health is not None and self.health.http is None:
            self._thread.join(STOP_SECONDS)

    @property
    def has_result(self) -> bool:
        """Whether `latest` is more than an assumption."""
        is_unknown = self.health is not None and self._report is None and time.monotonic() < self._unknown_until
        return not is_unknown or (self.program is not None and not self.program.is_running)

    def latest(self) -> HealthReport:
        """Return the latest result. While the release is being replaced, return the last result before that."""
        if self._final_report is not None:
            return self._final_report
        if self.program is not None and not self.program.is_running:
            return HealthReport(False, _why_not_running(self.program))
        if self.health is None:
            return HealthReport(True)
        report, process = self._report, self._process
        if process != self._current_process():
            return NO_RESULT  # the program has just restarted
        if report is not None:
            return report
        return HealthReport(True) if time.monotonic() < self._unknown_until else NO_RESULT

    def _current_process(self) -> tuple[int, int]:
        return (self.program.pid, self.program.start_time) if self.program is not None else (0, 0)

    def _run(self) -> None:
        while not self._stopped.is_set():
            if self._process != self._current_process():
                self._report = None
                self._process = self._current_process()
                self._check_at = self._unknown_until = 0.0
            is_running = self.program is None or self.program.is_running
            if is_running and time.monotonic() >= self._check_at:
                self._check()
                self._check_at = time.monotonic() + self._interval_seconds
            remaining = self._check_at - time.monotonic() if is_running else TICK_SECONDS
            self._stopped.wait(max(0.0, min(TICK_SECONDS, remaining)))

    def _check(self) -> None:
        process = self._process
        report = self._attempt(lambda: self._stopped.is_set() or self._current_process() != process)
        now = time.monotonic()
        if self._stopped.is_set() or self._current_process() != process:
            return
        if report is not None:
            self._report = report
            # A file that is being written cannot be read. Its last contents stay valid until the next check.
            self._unknown_until = now + 1.5 * self._interval_seconds
        elif now >= self._unknown_until:
            self._report = HealthReport(False, "The program does not write its health file.")

    def _attempt(self, is_stopped: Callable[[], bool]) -> HealthReport | None:
        """Check once. An unexpected error is a failed check and must not end the thread."""
        assert self.health is not None  # noqa: S101
        try:
            return check(self.health, self.context, is_stopped)
        except OSError as error:
            return HealthReport(False, f"The health check cannot run: {error}.")
        except Exception as error:
            logger.exception("The health check of %s failed unexpectedly.", self.context.product)
            return HealthReport(False, f"The health check failed unexpectedly: {type(error).__name__}.")


class HealthMonitors:
    """The monitors of all products."""

    def __init__(self) -> None:
        self._monitors: dict[str, HealthMonitor] = {}

    def find(self, product: str, release: str) -> HealthMonitor | None:
        """Return the monitor of a release, or None if another release of the product is monitored."""
        monitor = self._monitors.get(product)
        return monitor if monitor is not None and monitor.release == release else None

    def start(self, product: str, monitor: HealthMonitor) -> None:
        """Monitor a release instead of the previous release of its product."""
        self.suspend(product)
        self._monitors[product] = monitor
        monitor.start()

    def suspend(self, product: str) -> None:
        """Stop the checks of a product before its program is stopped or another release is checked."""
        monitor = self._monitors.get(product)
        if monitor is not None:
            monitor.suspend()
            monitor.wait()

    def stop(self) -> None:
        """Stop all checks."""
        monitors = list(self._monitors.values())
        for monitor in monitors:
            monitor.suspend()
        for monitor in monitors:
            monitor.wait()

    def wait_for_results(self, is_stopped: Callable[[], bool]) -> None:
        """Wait until every release has been checked, or its time for the first check is over."""
        while not is_stopped() and not all(monitor.has_result for monitor in list(self._monitors.values())):
            time.sleep(0.05)


def _why_not_running(program: Program) -> str:
    """Return the message that a program is not running, with its last exit if it is already known."""
    if program.retry_at is None and not program.is_crash_looping:
        return "The program is not running."
    return f"The program is not running: {program.last_exit.rstrip('.')}."
