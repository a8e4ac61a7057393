"""The move from a local disk to a bucket while devices continue to download.

    on disk ──copied and hashed, size compared──► in the bucket as well ──► deleted on disk

A blob that is on disk is served from there. An interrupted copy leaves nothing at a final key.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from uuid import UUID

from bundles.errors import DamagedBlob
from bundles.identifiers import digest_of, is_sha256
from bundles.models import Upload
from bundles.storage.disk import CHUNK_SIZE, DiskBlobs
from bundles.storage.s3_blobs import S3Blobs
from bundles.storage.s3_client import Bucket, translated
from bundles.storage.s3_objects import put
from bundles.storage.s3_verification import blob_key
from foundation.errors import NotFound

if TYPE_CHECKING:
    from bundles.storage.interface import SealedUpload

Advance = Callable[[int], None]


class MovingBlobs(S3Blobs):
    """A bucket, and a disk from which it is being filled. New bytes only go to the bucket."""

    # A blob that is being copied must not be deleted: the copy would remain.
    can_delete = False

    def __init__(self, bucket: Bucket, disk: DiskBlobs) -> None:
        super().__init__(bucket)
        self.disk = disk

    def open(self, sha256: str) -> BinaryIO:
        with suppress(NotFound):
            return self.disk.open(sha256)
        return super().open(sha256)

    def size(self, sha256: str) -> int:
        with suppress(NotFound):
            return self.disk.size(sha256)
        return super().size(sha256)

    def exists(self, sha256: str) -> bool:
        return self.disk.exists(sha256) or super().exists(sha256)

    def url(self, sha256: str) -> str | None:
        return None if self.disk.exists(sha256) else super().url(sha256)

    def sealed(self, upload: UUID, multipart_id: str = "") -> "AbstractContextManager[SealedUpload]":
        if not multipart_id and self.disk.has_upload(upload):
            return self.disk.sealed(upload)
        return super().sealed(upload, multipart_id)

    def discard(self, upload: UUID) -> None:
        self.disk.discard(upload)
        super().discard(upload)

    def uploads(self) -> Iterator[tuple[UUID, datetime]]:
        return chain(self.disk.uploads(), super().uploads())


@dataclass(frozen=True, order=True, slots=True)
class BlobOnDisk:
    """A blob that has not been moved yet. Small blobs sort first."""

    size: int
    sha256: str


def is_moving(directory: Path) -> bool:
    """Return whether a disk that was in use before the bucket still has blobs or uploads."""
    return (directory / "blobs").is_dir() or (directory / "uploads").is_dir()


def remaining_blobs(disk: DiskBlobs) -> list[BlobOnDisk]:
    """Return the blobs that are still on disk, small ones first."""
    blobs = []
    for path in (disk.directory / "blobs").glob("*/*"):
        with suppress(FileNotFoundError):
            if is_sha256(path.name):
                blobs.append(BlobOnDisk(path.stat().st_size, path.name))
    return sorted(blobs)


def copy_blob(bucket: Bucket, disk: DiskBlobs, sha256: str, advance: Advance) -> None:
    """Copy one blob into the bucket; `advance` gets the number of bytes of each chunk. Idempotent.

    Raises `DamagedBlob` if the bytes on disk, or those in the bucket, do not match the sha256.
    """
    storage = S3Blobs(bucket)
    try:
        present = storage.open(sha256)
    except NotFound:
        with disk.open(sha256) as file, translated():
            put(bucket, blob_key(sha256), _advancing(file, advance), sha256)
        if storage.size(sha256) != disk.size(sha256):
            raise DamagedBlob(
                f"The bucket has {blob_key(sha256)} with a size that differs from the bytes sent."
            ) from None
        return
    with present:
        digest = digest_of(_advancing(present, advance))
    if digest.sha256 != sha256:
        raise DamagedBlob(f"The object {blob_key(sha256)} in the bucket does not match its name: delete it.")


def _advancing(file: BinaryIO, advance: Advance) -> Iterator[bytes]:
    while chunk := file.read(CHUNK_SIZE):
        yield chunk
        advance(len(chunk))


def delete_from_disk(disk: DiskBlobs, sha256: str) -> None:
    """Delete a copied blob on disk. Downloads that have it open continue; later ones go to the bucket."""
    disk.delete(sha256)
    with suppress(OSError):  # the directory has other blobs
        disk.blob_path(sha256).parent.rmdir()


def finish(disk: DiskBlobs) -> bool:
    """Remove leftovers of uploads and the empty directories. False if the disk is still needed.

    It is needed for uploads that were being verified when the bucket was configured. Open ones restart in the bucket.
    """
    waiting = set(Upload.objects.verifying().filter(multipart_id="").values_list("pk", flat=True))
    for upload, _ in list(disk.uploads()):
        if upload not in waiting:
            disk.discard(upload)
    with suppress(OSError):
        for name in ("blobs", "uploads"):
            with suppress(FileNotFoundError):
                (disk.directory / name).rmdir()
        return True
    return False
