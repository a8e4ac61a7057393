"""From a command to a complete release that nobody uses yet. All of it can be dropped without a trace."""

import hashlib
import logging
import time
from collections.abc import Callable
from pathlib import Path

from agent.atomic_files import is_disk_full
from agent.config import Config
from agent.errors import InstallationFailed, Refused, TryLater
from agent.install import preflight
from agent.jobs.journal import Journal
from agent.jobs.progress import enter_stage, record_timing, report_download
from agent.jobs.state import Job, Stage
from agent.manifest import File, Manifest, parse
from agent.paths import BadManifest
from agent.releases.blob_store import Check, Store, WrongBytes
from agent.releases.releases import Releases
from agent.server.api import ControlPlane
from agent.server.backoff import Backoff

log = logging.getLogger(__name__)

# Waits for so many seconds, or raises when the work is no longer wanted.
Pause = Callable[[float], None]


class Fetcher:
    """Fetches one job's release. `check` and `pause` raise when it is to stop."""

    def __init__(
        self, config: Config, journal: Journal, control: ControlPlane, store: Store, releases: Releases,
        check: Check, pause: Pause,
    ) -> None:  # fmt: skip
        self.config = config
        self.journal = journal
        self.control = control
        self.store = store
        self.releases = releases
        self.check = check
        self.pause = pause

    def prepare(self, job: Job) -> Manifest:
        """Make the release of a job complete on disk. Raises `InstallationFailed`, or whatever `check` raises."""
        begun = time.monotonic()
        enter_stage(self.journal, job, Stage.FETCHING, "downloading")
        try:
            manifest = self._manifest(job)
            if not self._is_there(job, manifest):
                self._refuse_to_replace(job)
                preflight.check(self.config, manifest, self.store)
                Download(self, job, manifest).run()
                enter_stage(self.journal, job, Stage.STAGING)
                self.releases.stage(job.product, job.manifest_sha256, manifest, self.store, self.check)
            self.store.keep_only(set())
        except OSError as error:
            if is_disk_full(error):
                raise InstallationFailed("no_space", "The disk is full.") from None
            raise
        enter_stage(self.journal, job, Stage.STAGING)
        record_timing(self.journal, job, "fetch", time.monotonic() - begun)
        return manifest

    def _refuse_to_replace(self, job: Job) -> None:
        """A release that is in use is never built anew under its own name."""
        if self.journal.state.installed(job.product).is_at(job.manifest_sha256):
            raise InstallationFailed("internal", "This very release is installed and damaged; deploy another version.")

    def _is_there(self, job: Job, manifest: Manifest) -> bool:
        return self.releases.matches(job.product, job.manifest_sha256, manifest, self.check)

    def _manifest(self, job: Job) -> Manifest:
        try:
            return self._fitting(job, self.releases.manifest(job.product, job.manifest_sha256))
        except (OSError, BadManifest):
            body = self._fetch_manifest(job)
        manifest = self._fitting(job, parse(body))
        self.releases.save_manifest(job.product, job.manifest_sha256, body)
        return manifest

    def _fitting(self, job: Job, manifest: Manifest) -> Manifest:
        if (manifest.name, manifest.version) != (job.product, job.version):
            raise BadManifest("bad_name", "The manifest is of another bundle than the command says.")
        return manifest

    def _fetch_manifest(self, job: Job) -> bytes:
        tries = Tries(self)
        while True:
            self.check()
            try:
                body = self.control.manifest(job.product, job.version, job.manifest_sha256, job.manifest_size)
            except (Refused, TryLater) as error:
                tries.failed(error, "manifest")
                continue
            if hashlib.sha256(body).hexdigest() == job.manifest_sha256:
                return body
            tries.wrong("bad_manifest", "The manifest is not the one that the command names.")


class Tries:
    """What to do when fetching something failed: the network may take as long as it likes, wrong answers may not."""

    def __init__(self, fetcher: Fetcher) -> None:
        self.fetcher = fetcher
        self.config = fetcher.config
        self.backoff = Backoff(self.config.backoff_seconds, self.config.backoff_limit_seconds)
        self.wrongs = 0

    def failed(self, error: Refused | TryLater, what: str) -> None:
        """Wait, or raise `InstallationFailed` when the server refused often enough."""
        if isinstance(error, Refused):
            self.wrong("download_failed", f"The {what} is not to be had. {error}")
            return
        log.warning("Fetching the %s: %s", what, error)
        self.fetcher.pause(self.backoff.failure(error.retry_after_seconds))

    def wrong(self, reason_code: str, message: str) -> None:
        self.wrongs += 1
        log.warning("%s", message)
        if self.wrongs >= self.config.blob_tries:
            raise InstallationFailed(reason_code, message, is_refusal=reason_code == "bad_manifest")
        self.fetcher.pause(self.backoff.failure())


class Download:
    """The blobs of one release: from another release on this device if one has them, else from the server."""

    def __init__(self, fetcher: Fetcher, job: Job, manifest: Manifest) -> None:
        self.fetcher = fetcher
        self.job = job
        self.files = {file.sha256: file for file in manifest.files}
        self.total = sum(file.size for file in self.files.values())
        self.done = 0
        self.reported_at = time.monotonic()

    def run(self) -> None:
        """Raises `InstallationFailed`: `bad_blob`, `download_failed`."""
        local = self._local()
        for file in self.files.values():
            if not self.fetcher.store.has(file.sha256) and not self._copied(file, local.get(file.sha256, [])):
                self._fetch(file)
            self.done += file.size
        self._report(0)

    def _fetch(self, file: File) -> None:
        fetcher = self.fetcher
        tries = Tries(fetcher)
        if file.size == 0:
            # Nothing to ask for; a digest that is not that of nothing is wrong at once.
            tries.wrongs = fetcher.config.blob_tries
        while True:
            fetcher.check()
            before = fetcher.store.missing(file.sha256, file.size)
            try:
                fetcher.store.fetch(
                    file.sha256, file.size, lambda start: fetcher.control.blob(file.sha256, start),
                    fetcher.check, self._progress,
                )  # fmt: skip
                return
            except WrongBytes as error:
                tries.wrong("bad_blob", str(error))
            except (Refused, TryLater) as error:
                if fetcher.store.missing(file.sha256, file.size) < before:
                    tries.backoff.success()
                tries.failed(error, f"file {file.sha256[:12]}")

    def _local(self) -> dict[str, list[Path]]:
        """Where on this device files with the wanted bytes should be."""
        fetcher = self.fetcher
        wanted = {sha256 for sha256 in self.files if not fetcher.store.has(sha256)}
        found: dict[str, list[Path]] = {}
        for product, kept in fetcher.journal.state.products.items():
            for release in (kept.current, kept.previous):
                if release is None:
                    continue
                try:
                    files = fetcher.releases.manifest(product, release.manifest_sha256).files
                except (OSError, BadManifest):
                    continue
                root = fetcher.releases.path(product, release.manifest_sha256)
                for file in files:
                    if file.sha256 in wanted:
                        found.setdefault(file.sha256, []).append(root / file.path)
        return found

    def _copied(self, file: File, sources: list[Path]) -> bool:
        if self.fetcher.store.part(file.sha256).exists():
            return False  # a download that was begun is worth more than another copy
        store = self.fetcher.store
        return any(store.copy(file.sha256, file.size, path, self.fetcher.check, self._progress) for path in sources)

    def _progress(self, have: int) -> None:
        if time.monotonic() - self.reported_at >= self.fetcher.config.progress_seconds:
            self._report(have)

    def _report(self, have: int) -> None:
        self.reported_at = time.monotonic()
        report_download(self.fetcher.journal, self.job, self.done + have, self.total)
