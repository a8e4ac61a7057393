"""Hashes and promotes an upload in the bucket that nobody can change any more."""

import hashlib
import time

from bundles.errors import DamagedBlob, StillHashing
from bundles.identifiers import Digest
from bundles.storage.s3_client import Bucket, translated
from bundles.storage.s3_objects import MIB, RemoteFile, copy
from foundation.errors import NotFound

READ_SIZE = MIB
# One call hashes for at most this time, and the next call continues: a large object must not delay the scheduler.
HASH_SECONDS = 5.0


def blob_key(sha256: str) -> str:
    """Return the final key of a blob in the bucket."""
    return f"blobs/{sha256[:2]}/{sha256}"


class SealedObject:
    """`bundles.storage.interface.SealedUpload`: the object at `key`, or nothing if there is no such object."""

    def __init__(self, bucket: Bucket, key: str) -> None:
        self.bucket = bucket
        self.key = key
        try:
            with translated(), RemoteFile(bucket, key) as file:
                self.size, self.etag = file.size, file.etag
        except NotFound:
            self.size, self.etag = 0, ""

    def digest(self) -> Digest:
        if not self.etag:
            return Digest(hashlib.sha256().hexdigest(), 0)
        return self._digest(self.key, self.etag, self.size, self.key)

    def promote(self, sha256: str) -> None:
        final = blob_key(sha256)
        try:
            with translated(), RemoteFile(self.bucket, final) as present:
                etag, size = present.etag, present.size
        except NotFound:
            self._copy(final)
            return
        # Each upload hashes the existing object separately.
        name = final + self.key
        if self._digest(final, etag, size, name).sha256 != sha256:
            raise DamagedBlob(
                f"The object {final} does not match its name: move it aside, then send the file again."
            ) from None
        self.bucket.partial_hashes.forget(name)

    def _copy(self, final: str) -> None:
        with translated():
            if self.etag:
                copy(self.bucket, self.key, self.etag, self.size, final)
            else:
                self.bucket.patient.put_object(Bucket=self.bucket.bucket_name, Key=final, Body=b"")

    def _digest(self, key: str, etag: str, size: int, name: str) -> Digest:
        """Continue the partial hash called `name`. Raises `StillHashing` after `HASH_SECONDS`."""
        partial = self.bucket.partial_hashes.get(name, etag)
        deadline = time.monotonic() + HASH_SECONDS
        with RemoteFile(self.bucket, key, (etag, size)) as file:
            file.seek(partial.size)
            while chunk := file.read(READ_SIZE):
                partial.hash.update(chunk)
                partial.size += len(chunk)
                if time.monotonic() > deadline and partial.size < file.size:
                    raise StillHashing
        return Digest(partial.hash.hexdigest(), partial.size)
