"""The daemon and its three threads: one supervises programs, one sends requests to the server, one works on jobs.

The threads share only the journal. A power cut may interrupt a thread at any line. The journal records its progress, so
the work continues after a restart.
"""

import logging
import signal
import threading
from collections.abc import Callable
from types import FrameType

from agent.config import Config
from agent.errors import AgentError, JobFailed
from agent.install.installer import Installer, install_context
from agent.jobs.journal import Journal
from agent.jobs.progress import JobDropped, JobPostponed
from agent.jobs.state import DROPPABLE, Job, JobKind, JobResult
from agent.local_requests import DIRECT_PREFIX, LocalRequests
from agent.log import AgentLogFile
from agent.programs.crash_loops import CrashLoopWatch
from agent.programs.supervisor import Supervisor
from agent.running_bundles import RunningBundles
from agent.server.api import ControlPlane
from agent.server.backoff import Backoff
from agent.server.clock import Clock
from agent.server.exchanges import ServerExchanges
from agent.server.identity import Identity, remove_unfinished_keys
from agent.server.log_batches import LogBatch, LogSource, collect
from agent.server.log_delivery import LogDelivery
from agent.server.sequence import Sequence
from agent.server.session import Session

TICK_SECONDS = 0.5
FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS = 1.0, 60.0
KEPT_RESULTS = 100

log = logging.getLogger(__name__)

# Sends requests to the server until `stop` is set. Raises an error that a retry cannot fix.
ServerLoop = Callable[[ServerExchanges, threading.Event], None]


def exchange_until_stopped(exchanges: ServerExchanges, stop: threading.Event) -> None:
    """Send every request that is due, and retry after failures. Raises an `AgentError` if this device cannot enrol."""
    exchanges.delay_first_heartbeat()
    while not stop.is_set():
        exchange = exchanges.next_due()
        if exchange is None:
            exchanges.wait(stop.is_set)
            continue
        failure = exchanges.attempt(exchange)
        if failure is not None:
            if exchanges.is_final(failure):
                raise failure
            exchange.schedule.failed(failure)


class Daemon:
    """The components and threads of a running agent. `results` lists the last jobs that ended, with their results."""

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
        self.running_bundles = RunningBundles(journal, self.installer.launcher.health)
        self.local_requests = LocalRequests(config.state_dir)
        self.server_exchanges = self._server_exchanges(ControlPlane(config, identity, clock))

    def _server_exchanges(self, control: ControlPlane) -> ServerExchanges:
        session = Session(control, self.journal, Sequence(self.config.state_dir), self.running_bundles.describe)
        logs = LogDelivery(control, self.journal, self.config.state_dir, self._collect_logs)
        return ServerExchanges(self.config, session, self.journal, logs)

    @property
    def has_failed_jobs(self) -> bool:
        """Whether a job ended without success."""
        return any(result.state != "succeeded" for _, result in self.results)

    def run(self, server_loop: ServerLoop = exchange_until_stopped, *, keep_programs: bool = False) -> None:
        """Run until `server_loop` returns or a signal arrives, then stop the programs unless `keep_programs` is true.

        Raises:
            AgentError: An error that a retry cannot fix.
        """
        self._guarded("keys", lambda: remove_unfinished_keys(self.config.state_dir))
        self._guarded("logs", self.server_exchanges.logs.remove_finished)
        self._guarded("programs", self.installer.launcher.recover)
        self._guarded("garbage", self.installer.collect)
        if keep_programs:
            # The only heartbeat may be sent immediately, and has to say whether the programs are healthy.
            self.installer.launcher.health.wait_for_results(self.stop.is_set)
        server_thread = threading.Thread(target=self._run_server_loop, args=(server_loop,), name="server", daemon=True)
        work_thread = threading.Thread(target=self._work, name="work")
        for thread in (server_thread, work_thread):
            thread.start()
        while not self.stop.is_set():
            self._supervise_programs()
            self.stop.wait(TICK_SECONDS)
        with self.journal.changed:
            self.journal.changed.notify_all()
        # An installation that has passed the point of no return finishes first, with a commit or a rollback.
        work_thread.join()
        server_thread.join(1)
        self.installer.launcher.health.stop()
        self.running_bundles.remove_file()
        if not keep_programs:
            self.supervisor.stop_all()
        if self.failure is not None:
            raise self.failure

    def handle_signals(self) -> None:
        """Shut down gracefully after SIGTERM and SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        log.info("Stopping.")
        self.stop.set()

    def work_locally(self, kind: JobKind, product: str) -> JobResult:
        """Roll a product back or restart it without the server, and leave its program running.

        Finish earlier local requests and jobs that were interrupted after the point of no return first.

        Raises:
            JobFailed: The job did not end.
            OSError: The disk failed.
        """
        self.installer.launcher.recover()
        try:
            self._work_on_local_jobs(lambda job: job.stage not in DROPPABLE)
            self.local_requests.accept(self.journal)
            # If an earlier job for this product was interrupted before it began, its job is reused.
            job = self.local_requests.queue(self.journal, kind, product, f"{DIRECT_PREFIX}{product}")
            self._work_on_local_jobs(lambda job: not job.deployment_id)
        finally:
            self.installer.launcher.health.stop()
        for ended, result in reversed(self.results):
            if ended.key == job.key:
                return result
        raise JobFailed(f"The job for {product} did not end; the log says why.")

    def _work_on_local_jobs(self, is_wanted: Callable[[Job], bool]) -> None:
        for job in [*self.journal.state.jobs]:
            if is_wanted(job):
                try:
                    self.installer.work(job)
                except (JobDropped, JobPostponed):
                    log.info("The job %s is not needed any more.", job.key)

    def _record_result(self, job: Job, result: JobResult) -> None:
        self.results = [*self.results, (job, result)][-KEPT_RESULTS:]
        self.local_requests.respond(job, result)

    def _collect_logs(self, max_size: int) -> list[LogBatch]:
        programs = self.installer.launcher.logs.sources(self.journal.state.products)
        sources: list[LogSource] = [AgentLogFile(self.config.state_dir), *programs]
        return collect(sources, max_size)

    def _supervise_programs(self) -> None:
        self._guarded("programs", self.supervisor.poll)
        self._guarded("crash loops", self.crash_loops.update_observation)
        self._guarded("health", self._report_health)
        self._guarded("program logs", self.installer.launcher.logs.expire_hourly)
        self._guarded("local requests", lambda: self.local_requests.accept(self.journal))

    def _report_health(self) -> None:
        if self.running_bundles.has_changes():
            self.server_exchanges.send_heartbeat_early()
        self.running_bundles.save()

    def _guarded(self, part: str, work: Callable[[], None]) -> None:
        """Run a part of the agent whose failure must not end the thread. Log a repeated failure only once."""
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
        """Work on one job after another. Retry a job that fails unexpectedly, with increasing delays."""
        backoff = Backoff(FIRST_DELAY_SECONDS, LONGEST_DELAY_SECONDS)
        while not self.stop.is_set():
            with self.journal.changed:
                jobs = self.journal.state.jobs
                if not jobs:
                    self.journal.changed.wait(1)
                    continue
            try:
                self.installer.work(jobs[0])
                backoff.reset()
            except JobPostponed:
                continue
            except JobDropped:
                log.info("The job %s is not needed any more.", jobs[0].key)
            except OSError as error:
                log.error("The work on %s was interrupted: %s.", jobs[0].product, error)
                self.stop.wait(backoff.next_delay())
            except Exception:
                log.exception("The work on %s was interrupted unexpectedly.", jobs[0].product)
                self.stop.wait(backoff.next_delay())

    def _run_server_loop(self, server_loop: ServerLoop) -> None:
        try:
            server_loop(self.server_exchanges, self.stop)
        except AgentError as error:
            self.failure = error
        except Exception:
            log.exception("The server loop failed unexpectedly.")
            self.failure = AgentError("The server loop failed unexpectedly; the log says why.")
        finally:
            self.stop.set()
