"""The work on one job, from its command to its result.

1. A job that was interrupted after the point of no return is rolled back.
2. Otherwise, its release is completed on disk (`preparation.py`). The job can still be cancelled, and a failure changes
   nothing.
3. One write to the journal passes the point of no return, unless the job was cancelled first.
4. The release is switched and checked, then committed or rolled back (`switch.py`).
"""

import threading
import time
from collections.abc import Callable

from agent.config import Config
from agent.errors import InstallationFailed
from agent.install.context import InstallContext
from agent.install.download import DownloadSource
from agent.install.preparation import Preparation
from agent.install.switch import ReleaseSwitch
from agent.jobs import reports
from agent.jobs.journal import Journal
from agent.jobs.progress import JobDropped, JobPostponed, require_job
from agent.jobs.state import DROPPABLE, Job, JobKind, JobResult, Release, Stage
from agent.manifest import Manifest
from agent.paths import BadManifest
from agent.programs.launcher import ProgramLauncher
from agent.programs.supervisor import Supervisor
from agent.releases.blob_store import BlobStore
from agent.releases.releases import Releases
from agent.server.api import ControlPlane

MAX_STARTS = 3
# A start that downloaded at least this many bytes before it was interrupted does not count towards MAX_STARTS.
PROGRESS_SIZE = 1024 * 1024
CANCEL_WAIT_SECONDS = 30.0


def install_context(
    config: Config, journal: Journal, supervisor: Supervisor, on_end: Callable[[Job, JobResult], None]
) -> InstallContext:
    """Return the context for a state directory. `on_end` is called for each job that has ended."""
    releases = Releases(config.state_dir / "products")
    return InstallContext(
        config, journal, supervisor, BlobStore(config.state_dir / "blobs"), releases,
        ProgramLauncher(config, journal, releases, supervisor), on_end,
    )  # fmt: skip


class Installer:
    """Works on one job at a time. If `stop` is set, it interrupts work that can be resumed."""

    def __init__(self, context: InstallContext, control: ControlPlane, stop: threading.Event) -> None:
        self.context = context
        self.journal = context.journal
        self.control = control
        self.stop = stop
        self.launcher = context.launcher
        self.switch = ReleaseSwitch(context)

    def work(self, job: Job) -> None:
        """Work on a job until it ends. Raises `JobPostponed` if it has to wait, and `OSError` if the disk fails."""
        if job.kind is JobKind.CRASH_LOOP:
            self._go_back(job)  # even if it was interrupted, because the current release crashes
        elif job.stage not in DROPPABLE:
            interrupted = JobResult("rolled_back", "interrupted", "The installation was interrupted.")
            self.switch.roll_back(job, job.result or interrupted)
        elif job.kind is JobKind.DEPLOY:
            self._deploy(job)
        elif job.kind is JobKind.RESTART:
            self.switch.restart(job)
        else:
            self._go_back(job)
        self.collect()

    def collect(self) -> None:
        """Delete files that are no longer needed."""
        state = self.journal.state
        if not state.jobs:
            self.context.blobs.keep_only(set())
        all_wanted: dict[str, set[str]] = {}
        for product in self.context.releases.products():
            installed = state.installed(product)
            kept = {release.manifest_sha256 for release in (installed.current, installed.previous) if release}
            queued = {job.manifest_sha256 for job in state.jobs if job.product == product}
            all_wanted[product] = kept | queued
            self.context.releases.keep_only(product, all_wanted[product], with_staging=bool(queued))
        self.launcher.logs.collect(all_wanted)
        self.context.releases.empty_trash()
        self.journal.refill_ballast()

    def check(self, key: str) -> None:
        """Raise `JobDropped` if a job is no longer wanted, or `JobPostponed` if it has to wait."""
        state = self.journal.state
        job = state.job(key)
        if job is None or job.is_cancelled or job.is_ended:
            raise JobDropped
        if self.stop.is_set() or state.jobs[0].key != key:
            raise JobPostponed

    def pause(self, key: str, seconds: float) -> None:
        """Wait for some seconds. Raises the same errors as `check`."""
        deadline = time.monotonic() + seconds
        while (remaining := deadline - time.monotonic()) > 0:
            self.check(key)
            self.stop.wait(min(remaining, 0.5))

    def _deploy(self, job: Job) -> None:
        try:
            self._begin(job)
            manifest = self._prepare(job)
            if not self._is_current(job):
                self._cross_point_of_no_return(job)
        except JobDropped:
            self._drop(job, JobResult("cancelled", "cancelled", "Cancelled before anything was changed."))
        except JobPostponed:
            self._uncount_start(job)
            raise
        except InstallationFailed as error:
            state = "rejected" if error.is_refusal else "failed"
            self._drop(job, JobResult(state, error.reason_code, str(error)))
        else:
            if self._is_current(job):
                self.switch.check_again(job, manifest)
            else:
                self.switch.install(job, manifest)

    def _begin(self, job: Job) -> None:
        """Count this start. If earlier starts made progress with the download, reset the count first."""
        self.check(job.key)
        with self.journal.change() as state:
            recorded = require_job(state, job.key)
            downloaded = self.context.blobs.size()
            if downloaded - recorded.downloaded >= PROGRESS_SIZE:
                recorded.starts = 0
            recorded.downloaded = downloaded
            recorded.starts += 1
            if recorded.starts > MAX_STARTS:
                raise InstallationFailed("attempts_exhausted", f"Interrupted {MAX_STARTS} times.")

    def _uncount_start(self, job: Job) -> None:
        """Do not count a start that was stopped gracefully."""
        with self.journal.change() as state:
            require_job(state, job.key).starts -= 1

    def _prepare(self, job: Job) -> Manifest:
        key = job.key
        source = DownloadSource(
            self.context.config, self.control,
            check=lambda: self.check(key), pause=lambda seconds: self.pause(key, seconds),
        )  # fmt: skip
        return Preparation(self.context, source, job).run()

    def _is_current(self, job: Job) -> bool:
        return self.journal.state.installed(job.product).is_at(job.manifest_sha256)

    def _cross_point_of_no_return(self, job: Job) -> None:
        """Report `installing`, wait a limited time until the server has accepted it, and pass the point of no return.

        Raises `JobDropped` if the job was cancelled or the server has ended it.
        """
        with self.journal.change() as state:
            reports.queue(state, require_job(state, job.key), "installing")
        deadline = time.monotonic() + CANCEL_WAIT_SECONDS
        while any(report.key == job.key for report in self.journal.state.outbox) and time.monotonic() < deadline:
            self.pause(job.key, 0.05)
        with self.journal.change() as state:
            recorded = require_job(state, job.key)
            if recorded.is_cancelled or recorded.is_ended:
                raise JobDropped
            recorded.stage = Stage.INSTALLING

    def _drop(self, job: Job, result: JobResult) -> None:
        """End a job before the point of no return. First delete its blobs, to free space for the journal."""
        self.context.blobs.keep_only(set())
        self.switch.end(job, result)

    def _go_back(self, job: Job) -> None:
        """Make the previous release current again. This needs no network."""
        previous = self.journal.state.installed(job.product).previous
        if previous is None:
            self._refuse_rollback(job, JobResult("failed", "no_previous", f"{job.product} has no previous release."))
            return
        manifest = self._intact_manifest(job.product, previous)
        if manifest is None:
            message = f"The previous release of {job.product} is damaged."
            self._refuse_rollback(job, JobResult("failed", "bad_blob", message))
            return
        with self.journal.change() as state:
            job = require_job(state, job.key)
            job.version, job.manifest_sha256 = previous.version, previous.manifest_sha256
            job.stage = Stage.INSTALLING
        self.switch.go_back(job, manifest)

    def _intact_manifest(self, product: str, release: Release) -> Manifest | None:
        """Return the manifest of a release if all its files match it."""
        try:
            manifest = self.context.releases.manifest(product, release.manifest_sha256)
        except (OSError, BadManifest):
            return None
        is_intact = self.context.releases.matches(product, release.manifest_sha256, manifest, lambda: None)
        return manifest if is_intact else None

    def _refuse_rollback(self, job: Job, result: JobResult) -> None:
        """End an impossible rollback. The committed release continues to run, and is no longer observed."""
        with self.journal.change() as state:
            current = state.installed(job.product).current
            if current is not None:
                current.is_observed = False
        self.switch.end(job, result)
        if job.kind is JobKind.CRASH_LOOP and current is not None:
            self.launcher.activate(job.product, current)
