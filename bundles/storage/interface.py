"""The interface of storage, and the choice of its implementation. The package's docstring explains the terms."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import FileSystemStorage, storages

from bundles.identifiers import Digest
from bundles.storage.disk import DiskBlobs
from bundles.storage.migration import MovingBlobs, is_moving
from bundles.storage.s3_blobs import S3Blobs
from bundles.storage.s3_client import Bucket
from bundles.storage.s3_uploads import DirectUploads


class SealedUpload(Protocol):
    """An upload that nobody writes to any more and that only the holder of the seal reads."""

    def digest(self) -> Digest:
        """Return the digest of all bytes. Raises `StillHashing`: call it again to continue."""

    def promote(self, sha256: str) -> None:
        """Give the bytes their final key, durably. Idempotent, even if another upload of these bytes came first.

        Raises `DamagedBlob` if other bytes have that key, `StillHashing`.
        """


class Blobs(Protocol):
    """Every method raises `StorageFull` when the disk is full and `Unavailable` when storage does not respond."""

    @property
    def direct(self) -> DirectUploads | None:
        """How publishers put parts directly into storage. Call `direct_uploads()` instead."""

    @property
    def parallel_verifications(self) -> int:
        """How many uploads the scheduler verifies at the same time."""

    @property
    def can_delete(self) -> bool:
        """Whether the collector may delete blobs now."""

    def open(self, sha256: str) -> BinaryIO:
        """Return the blob as a seekable file. Raises `NotFound` (`unknown_blob`)."""

    def size(self, sha256: str) -> int:
        """Return the blob's size in bytes. Raises `NotFound` (`unknown_blob`)."""

    def exists(self, sha256: str) -> bool:
        """Return whether an object has the blob's final key."""

    def url(self, sha256: str) -> str | None:
        """Return a presigned URL of the blob. None if its bytes have to pass through the web server."""

    def delete(self, sha256: str) -> None:
        """Delete the blob's object, if there is one."""

    def has_space_for(self, size: int, reserved: int = 0) -> bool:
        """Return whether `size` more bytes fit, in addition to `reserved` bytes that are declared and not sent yet.

        Raises `Unavailable` if storage has not responded recently.
        """

    def write(self, upload: UUID, offset: int, chunks: Iterable[bytes], may_write: Callable[[], bool]) -> bool:
        """Write a part durably at its offset in bytes. Write nothing and return False if `may_write` returns False.

        `may_write` is called once no verification can begin before the part is written.
        """

    def sealed(self, upload: UUID, multipart_id: str = "") -> AbstractContextManager[SealedUpload]:
        """Hold the upload exclusively. Raises `UploadBusy` while a part is being written or another process holds it.

        `multipart_id` names the multipart upload, if parts were put into the bucket directly.
        """

    def discard(self, upload: UUID) -> None:
        """Delete the upload's bytes, if there are any."""

    def uploads(self) -> Iterator[tuple[UUID, datetime]]:
        """Yield each upload that has bytes here, and when the last of them arrived."""


def blobs() -> Blobs:
    """Return the storage that the settings name."""
    default = storages["default"]
    if isinstance(default, Bucket):
        if is_moving(settings.STORAGE_DIR):
            return MovingBlobs(default, DiskBlobs(settings.STORAGE_DIR))
        return S3Blobs(default)
    if isinstance(default, FileSystemStorage):
        return DiskBlobs(Path(default.location))
    raise ImproperlyConfigured(
        f"STORAGES['default'] is {type(default).__name__}: bundles must be kept on a local disk or in a bucket."
    )


def direct_uploads() -> DirectUploads | None:
    """Return how publishers and browsers put bytes directly into the bucket; None if they send them to the server."""
    return blobs().direct
