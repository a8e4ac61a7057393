"""The daemon: one thread looks after the programs, one talks to the server, one works on jobs.

They share nothing but the journal. Each may be interrupted at any line: the journal says what it was doing, and the
work continues from there.
"""

import logging
import signal
import threading
from collections.abc import Callable
from types import FrameType

from agent.config import Config
from agent.errors import AgentError, WorkFailed
from agent.install.installer import Installer, install_context
from agent.jobs.journal import Journal
from agent.jobs.progress import Stopping, Unwanted
from agent.jobs.state import DROPPABLE, Job, JobResult
from agent.local_requests import DIRECT, LocalRequests
from agent.log import OwnLog
from agent.programs.crash_loops import CrashLoopWatch
from agent.programs.supervisor import Supervisor
from agent.running_bundles import RunningBundles
from agent.server.api import ControlPlane
from agent.server.backoff import Backoff
from agent.server.clock import Clock
from agent.server.conversation import Conversation
from agent.server.identity import Identity, remove_unfinished_keys
from agent.server.log_batches import LogBatch, LogSource, collect
from agent.server.log_delivery import LogDelivery
from agent.server.sequence import Sequence
from agent.server.session import Session

TICK_SECONDS = 0.5
FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 1.0, 60.0
KEPT_RESULTS = 100

log = logging.getLogger(__name__)

# Talks to the server until `stop` is set, or raises the error that makes it pointless to go on.
Talk = Callable[[Conversation, threading.Event], None]


def talk_until_stopped(conversation: Conversation, stop: threading.Event) -> None:
    """Send whatever is due, and try again after failures. Raises an `AgentError` if this device cannot enrol."""
    conversation.delay_first_heartbeat()
    while not stop.is_set():
        exchange = conversation.next_due()
        if exchange is None:
            conversation.wait(stop.is_set)
            continue
        failure = conversation.attempt(exchange)
        if failure is not None:
            if conversation.is_final(failure):
                raise failure
            exchange.schedule.failed(failure)


class Daemon:
    """The parts of a running agent, and its three threads. `results` are the jobs that ended, with their results."""

    def __init__(self, config: Config, identity: Identity, journal: Journal) -> None:
        self.config = config
        self.journal = journal
        self.stop = threading.Event()
        self.failure: AgentError | None = None
        self.results: list[tuple[Job, JobResult]] = []
        self.failing_parts: dict[str, str] = {}
        self.crash_loops = CrashLoopWatch(config, journal)
        self.supervisor = Supervisor(config.stop_grace_seconds, self.crash_loops.count_crash)
        clock = Clock()
        control = ControlPlane(config, identity, clock)
        context = install_context(config, journal, self.supervisor, self._record_result)
        self.installer = Installer(context, control, self.stop)
        self.local_requests = LocalRequests(config.state_dir)
        self.conversation = self._conversation(ControlPlane(config, identity, clock))

    def _conversation(self, control: ControlPlane) -> Conversation:
        describe = RunningBundles(self.journal, self.supervisor).describe
        session = Session(control, self.journal, Sequence(self.config.state_dir), describe)
        logs = LogDelivery(control, self.journal, self.config.state_dir, self._collect_logs)
        return Conversation(self.config, session, self.journal, logs)

    @property
    def has_failed_jobs(self) -> bool:
        """Whether a job ended without success."""
        return any(result.state != "succeeded" for _, result in self.results)

    def run(self, talk: Talk = talk_until_stopped, *, keeps_programs: bool = False) -> None:
        """Work until `talk` ends or a signal arrives, then stop the programs unless they are kept.

        Raises:
            AgentError: What made it pointless to go on.
        """
        self._guarded("keys", lambda: remove_unfinished_keys(self.config.state_dir))
        self._guarded("logs", self.conversation.logs.remove_finished)
        self._guarded("programs", self.installer.launcher.recover)
        self._guarded("garbage", self.installer.collect)
        talking = threading.Thread(target=self._talk, args=(talk,), name="talk", daemon=True)
        working = threading.Thread(target=self._work, name="work")
        for thread in (talking, working):
            thread.start()
        while not self.stop.is_set():
            self._look_after_programs()
            self.stop.wait(TICK_SECONDS)
        with self.journal.changed:
            self.journal.changed.notify_all()
        # The worker finishes what lies between the first hook and the health check.
        working.join()
        talking.join(1)
        if not keeps_programs:
            self.supervisor.stop_all()
        if self.failure is not None:
            raise self.failure

    def handle_signals(self) -> None:
        """Stop in order after SIGTERM and SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        log.info("Stopping.")
        self.stop.set()

    def roll_back(self, product: str) -> JobResult:
        """Return a product to its previous release without a server, and leave its program running.

        Jobs that were interrupted past their point of no return, and earlier local requests, are finished first.

        Raises:
            WorkFailed: The job did not end.
            OSError: The disk failed.
        """
        self.installer.launcher.recover()
        self._work_on_local_jobs(lambda job: job.stage not in DROPPABLE)
        self.local_requests.accept(self.journal)
        # A job of this product that was interrupted before it began is continued.
        job = self.local_requests.queue(self.journal, product, f"{DIRECT}{product}")
        self._work_on_local_jobs(lambda job: not job.deployment_id)
        for ended, result in reversed(self.results):
            if ended.key == job.key:
                return result
        raise WorkFailed(f"{product} was not rolled back; the log says why.")

    def _work_on_local_jobs(self, is_wanted: Callable[[Job], bool]) -> None:
        for job in [*self.journal.state.jobs]:
            if is_wanted(job):
                try:
                    self.installer.work(job)
                except (Unwanted, Stopping):
                    log.info("The job %s is not needed any more.", job.key)

    def _record_result(self, job: Job, result: JobResult) -> None:
        self.results = [*self.results, (job, result)][-KEPT_RESULTS:]
        self.local_requests.answer(job, result)

    def _collect_logs(self, max_size: int) -> list[LogBatch]:
        programs = self.installer.launcher.logs.sources(self.journal.state.products)
        sources: list[LogSource] = [OwnLog(self.config.state_dir), *programs]
        return collect(sources, max_size)

    def _look_after_programs(self) -> None:
        self._guarded("programs", self.supervisor.poll)
        self._guarded("crash loops", self.crash_loops.poll)
        self._guarded("program logs", self.installer.launcher.logs.expire_hourly)
        self._guarded("local requests", lambda: self.local_requests.accept(self.journal))

    def _guarded(self, part: str, work: Callable[[], None]) -> None:
        """Run a part whose failure must not end the thread that keeps this device reachable.

        The same failure of the same part is logged once, not twice a second.
        """
        try:
            work()
        except Exception as error:
            if self.failing_parts.get(part) != repr(error):
                reason = "the state directory cannot be used" if isinstance(error, OSError) else "unexpected"
                log.error("%s: %s: %s. Continuing.", part, reason, error, exc_info=not isinstance(error, OSError))
            self.failing_parts[part] = repr(error)
        else:
            self.failing_parts.pop(part, None)

    def _work(self) -> None:
        """Work on one job after the other. A job that fails unexpectedly is tried again with growing waits."""
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
                log.info("The job %s is not needed any more.", jobs[0].key)
            except OSError as error:
                log.error("The work on %s was interrupted: %s.", jobs[0].product, error)
                self.stop.wait(backoff.failure())
            except Exception:
                log.exception("The work on %s was interrupted unexpectedly.", jobs[0].product)
                self.stop.wait(backoff.failure())

    def _talk(self, talk: Talk) -> None:
        try:
            talk(self.conversation, self.stop)
        except AgentError as error:
            self.failure = error
        except Exception:
            log.exception("The conversation with the server ended unexpectedly.")
            self.failure = AgentError("The conversation with the server ended unexpectedly; the log says why.")
        finally:
            self.stop.set()
