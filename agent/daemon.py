"""The daemon: one thread looks after the programs, one talks to the server, one does the work.

The journal is where they meet. Each thread may fail at any line: what it was doing stands in the journal, and it begins
again from there.
"""

import logging
import random
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from agent.config import Config
from agent.errors import AgentError, BadConfiguration, NotEnrolled, Refused, TryLater, WorkFailed
from agent.install.installer import Installer
from agent.jobs.journal import DROPPABLE, Job, JobResult, Journal, Release
from agent.jobs.progress import Stopping, Unwanted
from agent.local_requests import Asked
from agent.programs.crash_loops import Bake
from agent.programs.health import read_file
from agent.programs.supervisor import Supervisor
from agent.server.api import ControlPlane
from agent.server.backoff import Backoff
from agent.server.clock import Clock
from agent.server.identity import Identity, forget_unfinished
from agent.server.retry_schedule import Schedule
from agent.server.sequence import Sequence
from agent.server.session import Line

TICK_SECONDS = 0.5
TRIES_ONCE = 3
FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 1.0, 60.0
FIRST_WAIT_SHARE, FIRST_WAIT_SECONDS = 0.25, 15.0

log = logging.getLogger(__name__)


class Daemon:
    """The agent at work. `is_once`: stop as soon as one heartbeat is answered and all that it asked for is done."""

    def __init__(self, config: Config, identity: Identity, journal: Journal, *, is_once: bool = False) -> None:
        self.config = config
        self.journal = journal
        self.is_once = is_once
        self.stop = threading.Event()
        self.failure: AgentError | None = None
        self.results: list[tuple[Job, JobResult]] = []
        self.bake = Bake(config, journal)
        self.supervisor = Supervisor(config.stop_grace_seconds, self.bake.may_start)
        clock = Clock()
        control = ControlPlane(config, identity, clock)
        self.installer = Installer(config, journal, control, self.supervisor, self.stop, self._ended)
        self.asked = Asked(config.state_dir)
        self.line = Line(ControlPlane(config, identity, clock), journal, Sequence(config.state_dir), self.describe)

    def run(self) -> None:
        """Work until told to stop. Raises the `AgentError` that made going on pointless, if one did."""
        forget_unfinished(self.config.state_dir)
        self.installer.programs.recover()
        self._guarded(self.installer.collect)
        line = threading.Thread(target=self._talk, name="line", daemon=True)
        worker = threading.Thread(target=self._work, name="worker")
        for thread in (line, worker):
            thread.start()
        while not self.stop.is_set():
            self._tick()
            self.stop.wait(TICK_SECONDS)
        self._wake()
        # What lies between pre-hook and health gate is finished, and a program in its gate is looked after meanwhile.
        worker.join()
        line.join(1)
        if not self.is_once:
            self.supervisor.stop_all()
        if self.failure is not None:
            raise self.failure
        if any(result.state != "succeeded" for _, result in self.results) and self.is_once:
            raise WorkFailed("What the server asked for did not succeed; `status` and the log say why.")

    def handle_signals(self) -> None:
        """SIGTERM and SIGINT end the work in order."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        log.info("Stopping.")
        self.stop.set()

    def roll_back(self, product: str) -> JobResult:
        """Roll a product back without a server, and leave its program running."""
        self.installer.programs.recover()
        for one in [*self.journal.state.jobs]:
            if one.stage not in DROPPABLE:
                self.installer.work(one)  # that was interrupted, perhaps a roll-back that was asked for here
        self.asked.take(self.journal)
        # One that was cut off before it began is this one, if it was of this product.
        job = self.asked.queue(self.journal, product, f"here-{product}")
        for one in [*self.journal.state.jobs]:
            if not one.deployment_id:
                self.installer.work(one)
        return [result for ended, result in self.results if ended.key == job.key][-1]

    def describe(self, is_bare: bool) -> dict[str, Any]:
        """The status of this device and what runs on it, for a heartbeat."""
        state = self.journal.state
        running = {
            product: self._describe(product, installed.current, is_bare)
            for product, installed in state.products.items()
            if installed.current is not None
        }
        is_well = all(bundle["healthy"] for bundle in running.values())
        return {"status": "busy" if state.jobs else "idle" if is_well else "degraded", "running_bundles": running}

    def _describe(self, product: str, release: Release, is_bare: bool) -> dict[str, Any]:
        said: dict[str, Any] = {"version": release.version, "manifest_sha256": release.manifest_sha256}
        program = self.supervisor.find(product)
        is_its = program is not None and program.release == release.manifest_sha256
        said["healthy"] = (is_its and program is not None and program.is_running) or not release.has_program
        if is_its and program is not None and program.health_file is not None:
            verdict = read_file(program.health_file)
            said["healthy"] = said["healthy"] and verdict is not None and verdict.is_healthy
            if verdict is not None and verdict.details and not is_bare:
                said["verdict"] = verdict.details
        return said

    def _ended(self, job: Job, result: JobResult) -> None:
        self.results = [*self.results, (job, result)][-100:]
        self.asked.answer(job, result)

    def _tick(self) -> None:
        self._guarded(self.supervisor.poll)
        self._guarded(self.bake.poll)
        self._guarded(lambda: self.asked.take(self.journal))

    def _guarded(self, work: Callable[[], None]) -> None:
        """A full disk or a defect must not end the thread that keeps the device reachable."""
        try:
            work()
        except Exception:
            log.exception("Something went wrong; going on.")

    def _wake(self) -> None:
        with self.journal.changed:
            self.journal.changed.notify_all()

    def _work(self) -> None:
        backoff = Backoff(FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS)
        while not self.stop.is_set():
            with self.journal.changed:
                jobs = self.journal.state.jobs
                if not jobs:
                    self.journal.changed.wait(1)
                    continue
            try:
                self.installer.work(jobs[0])
                backoff.success()
            except Stopping:
                continue
            except Unwanted:
                log.info("A job is gone.")
            except Exception:
                log.exception("The work on %s was interrupted.", jobs[0].product)
                self.stop.wait(backoff.failure())

    def _talk(self) -> None:
        heartbeat = Schedule(self.config.backoff_seconds, self._limit())
        delivery = Schedule(self.config.backoff_seconds, self._limit())
        if not self.is_once:
            # After a power cut a whole fleet starts at once.
            share = self.line.interval_seconds * FIRST_WAIT_SHARE
            heartbeat.succeeded(random.uniform(0, min(share, FIRST_WAIT_SECONDS)))  # noqa: S311
        while not self.stop.is_set():
            if self.journal.state.outbox and not delivery.left_seconds:
                self._attempt(delivery, self._deliver)
            elif not heartbeat.left_seconds or (self._owes_a_heartbeat() and not heartbeat.is_waiting):
                self._attempt(heartbeat, self._heartbeat)
            elif self._is_done():
                self.stop.set()
            else:
                self._wait(heartbeat, delivery)

    def _limit(self) -> float:
        """A fleet that beats fast is small, and wants to be back soon."""
        return min(self.config.backoff_limit_seconds, max(30.0, 5 * self.line.interval_seconds))

    def _deliver(self) -> float:
        self.line.deliver()
        return 0.0

    def _heartbeat(self) -> float:
        self.line.heartbeat()
        try:
            self.line.report_attributes()
        except (Refused, TryLater) as error:
            log.info("What this machine is could not be reported yet: %s", error)
        return self.line.interval_seconds * random.uniform(0.95, 1.0)  # noqa: S311

    def _attempt(self, schedule: Schedule, do: Callable[[], float]) -> None:
        try:
            schedule.succeeded(do())
            return
        except (Refused, TryLater) as error:
            failure: AgentError = error
        except AgentError as error:
            failure = error
        except OSError as error:
            failure = TryLater(f"{error}.")
        except Exception as error:
            log.exception("Talking to the server went wrong; going on.")
            failure = TryLater(f"{type(error).__name__}.")
        is_final = isinstance(failure, Refused | NotEnrolled | BadConfiguration) and self.line.known is None
        is_last = schedule.backoff.failures + 1 >= TRIES_ONCE or isinstance(failure, Refused)
        if is_final or (self.is_once and is_last):
            self.failure = failure
            self.stop.set()
        else:
            schedule.failed(failure)

    def _owes_a_heartbeat(self) -> bool:
        """`once` ends with a heartbeat that acknowledges what was asked and says what runs now."""
        state = self.journal.state
        return self.is_once and not state.jobs and (bool(state.acknowledge) or self.line.has_news)

    def _is_done(self) -> bool:
        state = self.journal.state
        return self.is_once and not (state.jobs or state.outbox or state.acknowledge or self.line.has_news)

    def _wait(self, heartbeat: Schedule, delivery: Schedule) -> None:
        with self.journal.changed:
            left = heartbeat.left_seconds
            if self.journal.state.outbox:
                left = min(left, delivery.left_seconds)
            if left and not self.stop.is_set() and not self._is_done():
                self.journal.changed.wait(left)
