"""From a local disk to a bucket while devices go on downloading.

    on disk ──copied, hashed on the way, its size asked back──► in the bucket as well ──► deleted on disk

While anything lies on disk, it is served from there. An interrupted copy leaves nothing at a final key.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from bundles.errors import DamagedBlob
from bundles.manifest import is_sha256
from bundles.models import Upload
from bundles.storage.disk import CHUNK_SIZE, DiskBlobs
from bundles.storage.multipart import put
from bundles.storage.s3 import S3Blobs
from bundles.storage.s3_client import Bucket, translated
from bundles.storage.sealed_upload import SealedUpload, blob_key
from foundation.errors import NotFound

Advance = Callable[[int], None]


class MovingBlobs(S3Blobs):
    """A bucket, and a disk from which it is being filled. New bytes only ever go to the bucket."""

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

    def sealed(self, upload: UUID, multipart_id: str = "") -> AbstractContextManager[SealedUpload]:
        if not multipart_id and self.disk.has_upload(upload):
            return self.disk.sealed(upload)
        return super().sealed(upload, multipart_id)

    def discard(self, upload: UUID) -> None:
        self.disk.discard(upload)
        super().discard(upload)

    def uploads(self) -> Iterator[tuple[UUID, datetime]]:
        return chain(self.disk.uploads(), super().uploads())


def is_moving(directory: Path) -> bool:
    """Whether a disk that was in use before the bucket still holds anything."""
    return (directory / "blobs").is_dir() or (directory / "uploads").is_dir()


def left(disk: DiskBlobs) -> list[tuple[str, int]]:
    """The blobs that are still on disk, with their sizes, small ones first."""
    found = []
    for path in (disk.directory / "blobs").glob("*/*"):
        with suppress(FileNotFoundError):
            if is_sha256(path.name):
                found.append((path.name, path.stat().st_size))
    return sorted(found, key=lambda blob: (blob[1], blob[0]))


def copy(bucket: Bucket, disk: DiskBlobs, sha256: str, advance: Advance) -> None:
    """Bring one blob into the bucket; `advance` is told the bytes done. Harmless when it is there already.

    Raises `DamagedBlob` when the bytes here, or those already there, are not what their name says.
    """
    storage = S3Blobs(bucket)
    try:
        present = storage.open(sha256)
    except NotFound:
        with disk.open(sha256) as file, translated():
            put(bucket, blob_key(sha256), _told(file, advance), sha256)
        if storage.size(sha256) != disk.size(sha256):
            raise DamagedBlob(f"The bucket holds {blob_key(sha256)} in another size than was sent.") from None
        return
    with present:
        digest = hashlib.sha256()
        for chunk in _told(present, advance):
            digest.update(chunk)
    if digest.hexdigest() != sha256:
        raise DamagedBlob(f"The object {blob_key(sha256)} in the bucket is not what its name says: delete it.")


def _told(file: BinaryIO, advance: Advance) -> Iterator[bytes]:
    while chunk := file.read(CHUNK_SIZE):
        yield chunk
        advance(len(chunk))


def forget(disk: DiskBlobs, sha256: str) -> None:
    """Delete a blob here. Who is reading it goes on; who comes next is sent to the bucket."""
    path = disk.blob_path(sha256)
    path.unlink(missing_ok=True)
    with suppress(OSError):  # others lie there
        path.parent.rmdir()


def finish(disk: DiskBlobs) -> bool:
    """Remove what is left of uploads, then the empty directories: nobody looks here any more. False if they are not.

    Uploads that were being verified when the bucket came are still needed; open ones are sent to the bucket anew.
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
