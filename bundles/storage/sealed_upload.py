"""Looking at an upload in the bucket that nobody can change any more: hash it, and give it its final key."""

import hashlib
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from bundles.errors import DamagedBlob, StillHashing
from bundles.storage.multipart import MIB, copy
from bundles.storage.object_file import RemoteFile
from bundles.storage.s3_client import Bucket, translated
from foundation.errors import NotFound

READ_SIZE = MIB
# One look at an object hashes for so long, the next goes on from there: a large one does not hold up the scheduler.
HASH_SECONDS = 5.0


class SealedUpload(Protocol):
    """An upload that nobody writes to any more and that only the holder of the seal looks at."""

    def digest(self) -> tuple[str, int]:
        """The sha256 and the size of the whole, read in pieces. Raises `StillHashing`: ask again to go on."""

    def promote(self, sha256: str) -> None:
        """Give the bytes their final key, durably. Harmless when repeated, and when another upload was first.

        Raises `DamagedBlob` if something else already lies at that key.
        """


def blob_key(sha256: str) -> str:
    """Where a blob lies in the bucket, for good."""
    return f"blobs/{sha256[:2]}/{sha256}"


@dataclass
class Hashing:
    """How far the hash of one object is. Kept between looks in this process; another one begins anew."""

    etag: str
    done: int = 0
    hash: Any = field(default_factory=hashlib.sha256)

    @classmethod
    def of(cls, key: str, etag: str) -> "Hashing":
        known = _HASHING.get(key)
        if known is None or known.etag != etag:
            known = _HASHING[key] = cls(etag)
        return known

    @staticmethod
    def forget(key: str) -> None:
        _HASHING.pop(key, None)


_HASHING: dict[str, Hashing] = {}


class SealedObject:
    """`SealedUpload`: the object at `key`, or that there is none."""

    def __init__(self, bucket: Bucket, key: str) -> None:
        self.bucket = bucket
        self.key = key
        try:
            with translated(), RemoteFile(bucket, key) as file:
                self.size, self.etag = file.size, file.etag
        except NotFound:
            self.size, self.etag = 0, ""

    def digest(self) -> tuple[str, int]:
        """Raises `StillHashing` after a few seconds, for large ones; asked again it goes on."""
        if not self.etag:
            return hashlib.sha256().hexdigest(), 0
        return _digest(self.bucket, self.key, self.etag, self.size)

    def promote(self, sha256: str) -> None:
        final = blob_key(sha256)
        try:
            with translated(), RemoteFile(self.bucket, final) as present:
                etag, size = present.etag, present.size
        except NotFound:
            self._copy(final)
            return
        if _digest(self.bucket, final, etag, size, self.key)[0] != sha256:
            raise DamagedBlob(
                f"The object {final} does not match its name: move it away, then send the file again."
            ) from None
        Hashing.forget(final + self.key)

    def _copy(self, final: str) -> None:
        with translated():
            if self.etag:
                copy(self.bucket, self.key, self.etag, self.size, final)
            else:
                self.bucket.patient.put_object(Bucket=self.bucket.bucket_name, Key=final, Body=b"")


def _digest(bucket: Bucket, key: str, etag: str, size: int, on_behalf_of: str = "") -> tuple[str, int]:
    """Raises `StillHashing` when it takes longer than `HASH_SECONDS`. Who asks for whom keeps hashes apart."""
    hashing = Hashing.of(key + on_behalf_of, etag)
    ends_at = time.monotonic() + HASH_SECONDS
    with RemoteFile(bucket, key, (etag, size)) as file:
        file.seek(hashing.done)
        while chunk := file.read(READ_SIZE):
            hashing.hash.update(chunk)
            hashing.done += len(chunk)
            if time.monotonic() > ends_at and hashing.done < file.size:
                raise StillHashing
    return hashing.hash.hexdigest(), hashing.done
