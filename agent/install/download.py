"""The download of a release: its manifest and its blobs. Blobs are copied from other releases if possible."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent.config import Config
from agent.errors import InstallationFailed, Refused, TryLater
from agent.install.retry_policy import Pause, RetryPolicy
from agent.jobs.state import Job
from agent.manifest import Manifest
from agent.releases.blob_store import Blob, BlobStore, Observer, StopCheck, WrongBytes
from agent.server.api import ControlPlane


@dataclass(frozen=True, slots=True)
class DownloadSource:
    """The control plane as the source of a download. `check` and `pause` raise if the download has to stop."""

    config: Config
    control: ControlPlane
    check: StopCheck
    pause: Pause

    def retry_policy(self) -> RetryPolicy:
        return RetryPolicy(self.config, self.pause)


def download_manifest(source: DownloadSource, job: Job) -> bytes:
    """Return the manifest that a job names.

    Raises:
        InstallationFailed: `bad_manifest`, `download_failed`.
    """
    policy = source.retry_policy()
    while True:
        source.check()
        try:
            body = source.control.manifest(job.product, job.version, job.manifest_sha256, job.manifest_size)
        except Refused as error:
            policy.refused("manifest", error)
        except TryLater as error:
            policy.unreachable("manifest", error)
        else:
            if hashlib.sha256(body).hexdigest() == job.manifest_sha256:
                return body
            policy.wrong_manifest()


class BlobDownload:
    """Adds the blobs of one manifest to the store.

    `report` is called at intervals with the number of completed bytes and the total number of bytes.
    """

    def __init__(
        self, source: DownloadSource, store: BlobStore, manifest: Manifest, report: Callable[[int, int], None]
    ) -> None:
        self.source = source
        self.store = store
        self.blobs = [
            Blob(sha256, size) for sha256, size in {file.sha256: file.size for file in manifest.files}.items()
        ]
        self.report = report
        self._bytes_total = sum(blob.size for blob in self.blobs)
        self._bytes_done = 0
        self._reported_at = time.monotonic()
        self._observer = Observer(source.check, self._progress)

    def missing_blobs(self) -> set[str]:
        """Return the sha256s of the blobs that are not complete in the store."""
        return {blob.sha256 for blob in self.blobs if not self.store.has(blob.sha256)}

    def run(self, local_files: dict[str, list[Path]]) -> None:
        """Copy or download the missing blobs. `local_files` lists, by sha256, files that should contain a blob.

        Raises:
            InstallationFailed: `bad_blob`, `download_failed`.
        """
        for blob in self.blobs:
            if not self.store.has(blob.sha256) and not self._copy(blob, local_files.get(blob.sha256, [])):
                self._download(blob)
            self._bytes_done += blob.size
        self.report(self._bytes_done, self._bytes_total)

    def _copy(self, blob: Blob, files: list[Path]) -> bool:
        if self.store.part(blob.sha256).exists():
            return False  # the download is resumed instead
        return any(self.store.copy(blob, file, self._observer) for file in files)

    def _download(self, blob: Blob) -> None:
        name = f"file {blob.sha256[:12]}"
        policy = self.source.retry_policy()
        while True:
            self.source.check()
            missing_before = self.store.missing_size(blob)
            try:
                self.store.download(blob, lambda offset: self.source.control.blob(blob.sha256, offset), self._observer)
            except WrongBytes as error:
                if blob.size == 0:
                    # An empty blob needs no download, so a retry cannot help.
                    raise InstallationFailed("bad_blob", str(error)) from None
                policy.wrong_bytes(error)
            except Refused as error:
                policy.refused(name, error)
            except TryLater as error:
                if self.store.missing_size(blob) < missing_before:
                    policy.progressed()
                policy.unreachable(name, error)
            else:
                return

    def _progress(self, size: int) -> None:
        if time.monotonic() - self._reported_at >= self.source.config.progress_seconds:
            self._reported_at = time.monotonic()
            self.report(self._bytes_done + size, self._bytes_total)
