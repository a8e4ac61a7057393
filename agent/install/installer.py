"""One job from its command to its end.

1. A job that is found behind the point of no return was interrupted: it is rolled back.
2. Its release is made complete (fetching.py). Until here a cancel wins, and a failure leaves no trace.
3. The point of no return is crossed by one write to the journal, which loses against a cancel.
4. Switch, check, and commit or go back (switching.py).
"""

import threading
import time
from collections.abc import Callable

from agent.config import Config
from agent.errors import InstallationFailed
from agent.install.download import Fetcher
from agent.install.switch import Switch
from agent.jobs import reports
from agent.jobs.journal import Journal
from agent.jobs.progress import Stopping, Unwanted, require_job
from agent.jobs.state import DROPPABLE, Job, JobResult, Kind, Release, Stage
from agent.manifest import Manifest
from agent.paths import BadManifest
from agent.programs.launcher import Programs
from agent.programs.supervisor import Supervisor
from agent.releases.blob_store import Store
from agent.releases.releases import Releases
from agent.server.api import ControlPlane

MAX_STARTS = 3
WORTH_A_START = 1024 * 1024
ANSWER_PATIENCE_SECONDS = 30.0


class Installer:
    """Works on one job at a time. `on_end` hears how each ended; `stop` asks it to leave what can wait."""

    def __init__(
        self, config: Config, journal: Journal, control: ControlPlane, supervisor: Supervisor, stop: threading.Event,
        on_end: Callable[[Job, JobResult], None] = lambda *_: None,
    ) -> None:  # fmt: skip
        self.config = config
        self.journal = journal
        self.control = control
        self.stop = stop
        self.patience_seconds = ANSWER_PATIENCE_SECONDS
        self.store = Store(config.state_dir / "blobs")
        self.releases = Releases(config.state_dir / "products")
        self.programs = Programs(config, journal, self.releases, supervisor)
        self.switch = Switch(config, journal, self.releases, supervisor, self.programs, on_end)

    def work(self, job: Job) -> None:
        """Bring a job to its end. Raises `Stopping` if it has to wait, `OSError` if the disk fails."""
        if job.kind is Kind.CRASH_LOOP:
            self._return(job)  # also when it was interrupted: what it leaves does not run
        elif job.stage not in DROPPABLE:
            interrupted = JobResult("rolled_back", "interrupted", "The installation was interrupted.")
            self.switch.roll_back(job, job.result or interrupted)
        elif job.kind is Kind.DEPLOY:
            self._deploy(job)
        else:
            self._return(job)
        self.collect()

    def collect(self) -> None:
        """Delete what nothing refers to."""
        state = self.journal.state
        if not state.jobs:
            self.store.keep_only(set())
        for product in self.releases.products():
            kept = state.installed(product)
            wanted = {one.manifest_sha256 for one in (kept.current, kept.previous) if one is not None}
            under_way = {job.manifest_sha256 for job in state.jobs if job.product == product}
            self.releases.keep_only(product, wanted | under_way, with_staging=bool(under_way))
            self.programs.logs.keep_only(product, wanted | under_way)
        self.programs.logs.expire()
        self.releases.empty_trash()
        self.journal.refill_ballast()

    def check(self, key: str) -> None:
        """Raise if the work on a job is to stop: `Unwanted`, or `Stopping` when it has to wait."""
        state = self.journal.state
        job = state.job(key)
        if job is None or job.is_cancelled or job.is_ended:
            raise Unwanted
        if self.stop.is_set() or state.jobs[0].key != key:
            raise Stopping

    def pause(self, key: str, seconds: float) -> None:
        """Wait, unless the work is to stop."""
        ends_at = time.monotonic() + seconds
        while (left := ends_at - time.monotonic()) > 0:
            self.check(key)
            self.stop.wait(min(left, 0.5))

    def _deploy(self, job: Job) -> None:
        try:
            self._begin(job)
            manifest = self._prepare(job)
            if not self._is_current(job):
                self._cross(job)
        except Unwanted:
            self._drop(job, JobResult("cancelled", "cancelled", "Cancelled before anything was changed."))
        except Stopping:
            self._give_back(job)
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
        """Count this start. One that follows a start which brought many bytes counts anew: it was no vicious circle."""
        self.check(job.key)
        with self.journal.change() as state:
            known = require_job(state, job.key)
            downloaded = self.store.size()
            if downloaded - known.downloaded >= WORTH_A_START:
                known.starts = 0
            known.downloaded = downloaded
            known.starts += 1
            if known.starts > MAX_STARTS:
                raise InstallationFailed("attempts_exhausted", f"Begun {MAX_STARTS} times and interrupted each time.")

    def _give_back(self, job: Job) -> None:
        """An orderly stop is nobody's fault and does not count as a start."""
        with self.journal.change() as state:
            require_job(state, job.key).starts -= 1

    def _prepare(self, job: Job) -> Manifest:
        key = job.key
        fetcher = Fetcher(
            self.config, self.journal, self.control, self.store, self.releases,
            check=lambda: self.check(key), pause=lambda seconds: self.pause(key, seconds),
        )  # fmt: skip
        return fetcher.prepare(job)

    def _is_current(self, job: Job) -> bool:
        return self.journal.state.installed(job.product).is_at(job.manifest_sha256)

    def _cross(self, job: Job) -> None:
        """Pass the point of no return, if the server, asked for a moment, has nothing against it."""
        with self.journal.change() as state:
            reports.queue(state, require_job(state, job.key), "installing")
        gives_up_at = time.monotonic() + self.patience_seconds
        while any(one.key == job.key for one in self.journal.state.outbox) and time.monotonic() < gives_up_at:
            self.pause(job.key, 0.05)
        with self.journal.change() as state:
            known = require_job(state, job.key)
            if known.is_cancelled or known.is_ended:
                raise Unwanted
            known.stage = Stage.INSTALLING

    def _drop(self, job: Job, result: JobResult) -> None:
        """End a job before the point of no return. First make room: on a full disk even the note needs some."""
        self.store.keep_only(set())
        self.switch.end(job, result)

    def _return(self, job: Job) -> None:
        """Make the previous release current again, without any network."""
        previous = self.journal.state.installed(job.product).previous
        if previous is None:
            self._stay(job, JobResult("failed", "no_previous", f"{job.product} has no previous release."))
            return
        manifest = self._whole(job.product, previous)
        if manifest is None:
            self._stay(job, JobResult("failed", "bad_blob", f"The previous release of {job.product} is damaged."))
            return
        with self.journal.change() as state:
            job = require_job(state, job.key)
            job.version, job.manifest_sha256 = previous.version, previous.manifest_sha256
            job.stage = Stage.INSTALLING
        self.switch.go_back(job, manifest)

    def _whole(self, product: str, release: Release) -> Manifest | None:
        """The manifest of a release of which every file is as it should be."""
        try:
            manifest = self.releases.manifest(product, release.manifest_sha256)
        except (OSError, BadManifest):
            return None
        is_whole = self.releases.matches(product, release.manifest_sha256, manifest, lambda: None)
        return manifest if is_whole else None

    def _stay(self, job: Job, result: JobResult) -> None:
        """There is no way back: whatever is committed goes on as well as it can."""
        with self.journal.change() as state:
            current = state.installed(job.product).current
            if current is not None:
                current.is_baking = False
        self.switch.end(job, result)
        if job.kind is Kind.CRASH_LOOP and current is not None:
            self.programs.bring_up(job.product, current)
