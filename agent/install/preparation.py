"""The preparation of a release: download and build it on disk, without activating it."""

import time
from pathlib import Path

from agent.atomic_files import is_disk_full
from agent.errors import InstallationFailed
from agent.install import preflight
from agent.install.context import InstallContext
from agent.install.download import BlobDownload, DownloadSource, download_manifest
from agent.jobs.progress import enter_stage, record_timing, report_download
from agent.jobs.state import Job, Stage
from agent.manifest import Manifest, parse
from agent.paths import BadManifest


class Preparation:
    """Downloads and builds the release of one job on disk."""

    def __init__(self, context: InstallContext, source: DownloadSource, job: Job) -> None:
        self.context = context
        self.journal = context.journal
        self.releases = context.releases
        self.source = source
        self.job = job

    def run(self) -> Manifest:
        """Complete the release and return its manifest.

        Raises:
            InstallationFailed: The release cannot be downloaded, or is not for this device.
            JobDropped, JobPostponed: The job is no longer wanted, or has to wait.
        """
        started_at = time.monotonic()
        enter_stage(self.journal, self.job, Stage.FETCHING, "downloading")
        try:
            manifest = self._manifest()
            if not self._is_complete(manifest):
                self._build(manifest)
            self.context.blobs.keep_only(set())
        except OSError as error:
            if is_disk_full(error):
                raise InstallationFailed("no_space", "The disk is full.") from None
            raise
        enter_stage(self.journal, self.job, Stage.STAGING)
        record_timing(self.journal, self.job, "fetch", time.monotonic() - started_at)
        return manifest

    def _build(self, manifest: Manifest) -> None:
        job, store = self.job, self.context.blobs
        if self.journal.state.installed(job.product).is_at(job.manifest_sha256):
            # Never replace the files of a release that is in use.
            raise InstallationFailed("internal", "The installed release is damaged; deploy another version.")
        preflight.check(self.source.config, manifest, store)
        download = BlobDownload(self.source, store, manifest, lambda *sizes: report_download(self.journal, job, *sizes))
        download.run(self._local_files(download.missing_blobs()))
        enter_stage(self.journal, job, Stage.STAGING)
        self.releases.stage(job.product, job.manifest_sha256, manifest, store, self.source.check)

    def _is_complete(self, manifest: Manifest) -> bool:
        return self.releases.matches(self.job.product, self.job.manifest_sha256, manifest, self.source.check)

    def _manifest(self) -> Manifest:
        job = self.job
        try:
            return self._check_name(self.releases.manifest(job.product, job.manifest_sha256))
        except (OSError, BadManifest):
            body = download_manifest(self.source, job)
        manifest = self._check_name(parse(body))
        self.releases.save_manifest(job.product, job.manifest_sha256, body)
        return manifest

    def _check_name(self, manifest: Manifest) -> Manifest:
        if (manifest.name, manifest.version) != (self.job.product, self.job.version):
            raise BadManifest("bad_name", "The manifest is for a different bundle than the command.")
        return manifest

    def _local_files(self, wanted: set[str]) -> dict[str, list[Path]]:
        """Return the files of installed releases that should have the wanted contents, by sha256."""
        files: dict[str, list[Path]] = {}
        for product, installed in self.journal.state.products.items():
            for release in (installed.current, installed.previous):
                if release is None:
                    continue
                try:
                    manifest = self.releases.manifest(product, release.manifest_sha256)
                except (OSError, BadManifest):
                    continue
                root = self.releases.path(product, release.manifest_sha256)
                for file in manifest.files:
                    if file.sha256 in wanted:
                        files.setdefault(file.sha256, []).append(root / file.path)
        return files
