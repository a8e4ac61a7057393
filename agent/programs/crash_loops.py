"""The observation time after an installation, in which a crash loop rolls the release back or stops it.

A crash is an exit of the program that the agent did not cause. Starts after a boot, a restart of the agent or the
failure of another version are not counted. The observation time is the time during which an agent watched the release.
The journal stores the total, so a device that is switched on only for short periods also completes it eventually.
"""

import logging
import time

from agent.config import Config
from agent.jobs import reports
from agent.jobs.journal import Journal
from agent.jobs.reports import tail
from agent.jobs.state import Job, JobKind, Release, State
from agent.programs.logs import failure_message
from agent.programs.program import Program

# The largest part of the observation time that a power cut may lose.
SAVE_SECONDS = 15.0
OUTPUT_SIZE = 4096
STOPPED = (
    "The program crashed repeatedly within the observation time and was stopped (no_previous: there is no previous"
    " release to return to)."
)

logger = logging.getLogger(__name__)


class CrashLoopWatch:
    """Counts the crashes of releases under observation. A crash loop queues a rollback, or stops the first release."""

    def __init__(self, config: Config, journal: Journal) -> None:
        self.config = config
        self.journal = journal
        self._watched_since: dict[tuple[str, str], float] = {}

    def count_crash(self, program: Program) -> bool:
        """Count one crash of a program. Return whether it may be restarted.

        Only crashes of the committed release are counted, because the health gate checks a release that is being
        installed. If the journal cannot be written, the crash is not counted.
        """
        product = program.product
        current = self.journal.state.installed(product).current
        if current is None or current.manifest_sha256 != program.release:
            return True
        if is_rollback_waiting(self.journal.state, product):
            return False
        if not current.is_observed:
            return True
        try:
            return self._count(program)
        except OSError as error:
            logger.error("A crash of %s cannot be counted: %s.", product, error)
            return True

    def update_observation(self) -> None:
        """Add the time since the last call to each observed release. Stop observing those that have completed it."""
        now = time.monotonic()
        for product, installed in self.journal.state.products.items():
            current = installed.current
            if current is None or not current.is_observed:
                continue
            seconds = now - self._watched_since.setdefault((product, current.manifest_sha256), now)
            is_over = current.observed_seconds + seconds >= self.config.bake_seconds
            if is_over or seconds >= SAVE_SECONDS:
                self._save(product, current, seconds, is_over=is_over)
                self._watched_since[product, current.manifest_sha256] = now

    def _count(self, program: Program) -> bool:
        product = program.product
        with self.journal.change() as state:
            current, previous = state.product(product).current, state.product(product).previous
            if current is None:
                return True
            current.crashes += 1
            if current.crashes <= self.config.crash_loop_starts:
                return True
            can_go_back = previous is not None and not previous.stopped
            if can_go_back:
                state.add_urgent(Job(JobKind.CRASH_LOOP, product, request_id=product))
            else:
                message = failure_message(STOPPED, program.log.last_output(OUTPUT_SIZE))
                record_stop(current, message)
                reports.queue_late(state, current, "failed", message)
        logger.error(
            "%s crashes repeatedly; %s.", product,
            "returning to the previous release" if can_go_back else "stopped, because there is no previous release",
        )  # fmt: skip
        return False

    def _save(self, product: str, watched: Release, seconds: float, *, is_over: bool) -> None:
        with self.journal.change() as state:
            current = state.product(product).current
            if current is None or current.manifest_sha256 != watched.manifest_sha256:
                return
            current.observed_seconds += seconds
            if is_over:
                current.is_observed, current.crashes = False, 0


def record_stop(release: Release, message: str) -> None:
    """Record that the program of a release must not be started again, and why."""
    release.stopped, release.is_observed = tail(message), False


def clear_stop(release: Release) -> None:
    """Allow a stopped program to be started again, and restart its observation."""
    release.stopped, release.is_observed, release.observed_seconds, release.crashes = "", True, 0.0, 0


def is_rollback_waiting(state: State, product: str) -> bool:
    """Return whether a rollback because of a crash loop is queued for a product. Its program is not started before."""
    return any(job.kind is JobKind.CRASH_LOOP and job.product == product for job in state.jobs)
