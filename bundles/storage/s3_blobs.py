"""Blobs in an S3-compatible bucket.

An upload is one multipart upload to `uploads/<id>`. Publishers put its parts there themselves, to presigned URLs that
are each valid for one part with one content. Sealing an upload completes it. From then on none of its URLs works,
so no byte changes between hashing and promotion. Promotion is a copy inside the storage.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO
from uuid import UUID

from botocore.exceptions import ClientError

from bundles.storage.s3_client import ABSENT, Bucket, code_of, translated
from bundles.storage.s3_objects import complete, open_object, put
from bundles.storage.s3_uploads import URL_SECONDS, DirectUploads, upload_key
from bundles.storage.s3_verification import SealedObject, blob_key

if TYPE_CHECKING:
    from bundles.storage.interface import SealedUpload

MAX_OBJECT_SIZE = 5 * 1024**4  # S3's limit


class S3Blobs:
    """`bundles.storage.interface.Blobs` in one bucket."""

    # Each verification makes several requests, and waits for them most of the time.
    parallel_verifications = 8
    can_delete = True

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.name = bucket.bucket_name
        self.direct = DirectUploads(bucket)

    def open(self, sha256: str) -> BinaryIO:
        return open_object(self.bucket, blob_key(sha256))

    def size(self, sha256: str) -> int:
        with translated():
            return int(self.bucket.client.head_object(Bucket=self.name, Key=blob_key(sha256))["ContentLength"])

    def exists(self, sha256: str) -> bool:
        with translated():
            return bool(self.bucket.exists(blob_key(sha256)))

    def url(self, sha256: str) -> str | None:
        """Valid for this one blob and 15 minutes. Raises `Unavailable` while storage is known to be unavailable."""
        self.bucket.availability.check()
        params = {"Bucket": self.name, "Key": blob_key(sha256)}
        return str(self.bucket.signing.generate_presigned_url("get_object", Params=params, ExpiresIn=URL_SECONDS))

    def delete(self, sha256: str) -> None:
        with translated():
            self.bucket.patient.delete_object(Bucket=self.name, Key=blob_key(sha256))

    def has_space_for(self, size: int, reserved: int = 0) -> bool:
        """A bucket has unlimited space; only the size of one object is limited."""
        self.bucket.availability.check()
        return size <= MAX_OBJECT_SIZE

    def write(self, upload: UUID, offset: int, chunks: Iterable[bytes], may_write: Callable[[], bool]) -> bool:
        """Write all bytes at once, from offset 0: publishers PUT parts to the bucket themselves."""
        if offset:
            raise ValueError("an object in a bucket is written from its first byte")
        if not may_write():
            return False
        with translated():
            put(self.bucket, upload_key(upload), chunks)
        return True

    def sealed(self, upload: UUID, multipart_id: str = "") -> "AbstractContextManager[SealedUpload]":
        self.bucket.availability.check()
        with translated():
            if multipart_id:
                complete(self.bucket, upload_key(upload), multipart_id)
        # There is no lock to release: an object that was completed cannot be written to.
        return nullcontext(SealedObject(self.bucket, upload_key(upload)))

    def discard(self, upload: UUID) -> None:
        key, client = upload_key(upload), self.bucket.patient
        with translated():
            for multipart in self._multipart_uploads(key):
                try:
                    client.abort_multipart_upload(Bucket=self.name, Key=key, UploadId=multipart["UploadId"])
                except ClientError as error:
                    if code_of(error) not in ABSENT:
                        raise
            client.delete_object(Bucket=self.name, Key=key)
        self.bucket.partial_hashes.forget(key)

    def uploads(self) -> Iterator[tuple[UUID, datetime]]:
        self.bucket.availability.check()
        with translated():
            pages = self.bucket.patient.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix="uploads/")
            entries = [(entry["Key"], entry["LastModified"]) for page in pages for entry in page.get("Contents", [])]
            entries += [(entry["Key"], entry["Initiated"]) for entry in self._multipart_uploads("uploads/")]
        for key, touched_at in entries:
            try:
                yield UUID(key.removeprefix("uploads/")), touched_at
            except ValueError:
                continue  # not an upload

    def _multipart_uploads(self, prefix: str) -> Iterator[dict[str, Any]]:
        pages = self.bucket.patient.get_paginator("list_multipart_uploads").paginate(Bucket=self.name, Prefix=prefix)
        for page in pages:
            yield from page.get("Uploads", [])
