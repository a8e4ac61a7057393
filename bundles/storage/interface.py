"""Where blobs and the bytes of uploads lie, behind one small interface.

    blobs/<aa>/<sha256>   final keys: written once, whole, synced and verified; never overwritten
    uploads/<id>          bytes on their way, in parts; becomes a blob or is deleted

`STORAGES["default"]` decides which implementation `blobs()` gives.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, Protocol
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.files.storage import FileSystemStorage, storages

from bundles.storage.disk import DiskBlobs
from bundles.storage.migration import MovingBlobs, is_moving
from bundles.storage.presigned_uploads import DirectUploads
from bundles.storage.s3 import S3Blobs
from bundles.storage.s3_client import Bucket
from bundles.storage.sealed_upload import SealedUpload


class Blobs(Protocol):
    """Every method raises `StorageFull` when the disk is full and `Unavailable` when storage is away."""

    direct: DirectUploads | None
    """How publishers put parts into storage themselves; None if parts have to pass through here."""

    def open(self, sha256: str) -> BinaryIO:
        """The blob's bytes, seekable. Raises `NotFound` (`unknown_blob`)."""

    def size(self, sha256: str) -> int:
        """The blob's size in bytes. Raises `NotFound` (`unknown_blob`)."""

    def exists(self, sha256: str) -> bool: ...

    def url(self, sha256: str) -> str | None:
        """Where to fetch the blob without this process, for a short while; None if it has to pass through here."""

    def has_room_for(self, size: int) -> bool:
        """Whether `size` further bytes would fit now. Raises `Unavailable` also when storage was away lately."""

    def write(self, upload: UUID, offset: int, chunks: Iterable[bytes], may_write: Callable[[], bool]) -> bool:
        """Write a part at its offset and make it durable. False, with nothing written, unless `may_write` says so.

        `may_write` is asked once no verification can begin before the part is written.
        """

    def sealed(self, upload: UUID, multipart_id: str = "") -> AbstractContextManager[SealedUpload]:
        """Hold the upload alone. Raises `UploadBusy` while a part is being written or another process holds it.

        `multipart_id` names the parts that were put into storage directly.
        """

    def discard(self, upload: UUID) -> None:
        """Delete the upload's bytes, if there are any."""

    def uploads(self) -> Iterator[tuple[UUID, datetime]]:
        """Which uploads have bytes here, and when the last ones came."""


def blobs() -> Blobs:
    """The storage that the settings name."""
    default = storages["default"]
    if isinstance(default, Bucket):
        if is_moving(settings.STORAGE_DIR):
            return MovingBlobs(default, DiskBlobs(settings.STORAGE_DIR))
        return S3Blobs(default)
    if isinstance(default, FileSystemStorage):
        return DiskBlobs(Path(default.location))
    raise ImproperlyConfigured(
        f"STORAGES['default'] is {type(default).__name__}: bundles are kept on a local disk or in a bucket."
    )
