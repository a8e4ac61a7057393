"""Blobs in an S3-compatible bucket.

An upload is one multipart upload to `uploads/<id>`. Publishers put its parts there themselves, to addresses that are
signed for one part of one content each. To seal it is to complete it: from then on none of those addresses works, so no
byte changes between hashing and promotion. Promotion is a copy that the storage makes by itself.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime
from typing import Any, BinaryIO, cast
from uuid import UUID

from botocore.exceptions import ClientError

from bundles.storage.availability import Pulse
from bundles.storage.multipart import complete, put
from bundles.storage.object_file import opened
from bundles.storage.presigned_uploads import URL_SECONDS, DirectUploads, upload_key
from bundles.storage.s3_client import ABSENT, Bucket, code_of, translated
from bundles.storage.sealed_upload import Hashing, SealedObject, SealedUpload, blob_key

MAX_OBJECT_SIZE = 5 * 1024**4  # S3's own limit


class S3Blobs:
    """`bundles.storage.interface.Blobs` in one bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.name = bucket.bucket_name
        self.direct: DirectUploads | None = DirectUploads(bucket)

    def open(self, sha256: str) -> BinaryIO:
        return cast(BinaryIO, opened(self.bucket, blob_key(sha256)))

    def size(self, sha256: str) -> int:
        with translated():
            return int(self.bucket.client.head_object(Bucket=self.name, Key=blob_key(sha256))["ContentLength"])

    def exists(self, sha256: str) -> bool:
        with translated():
            return bool(self.bucket.exists(blob_key(sha256)))

    def url(self, sha256: str) -> str | None:
        """Good for this one blob and 15 minutes. Raises `Unavailable` while storage is known to be away."""
        Pulse.of(self.bucket).check()
        params = {"Bucket": self.name, "Key": blob_key(sha256)}
        return str(self.bucket.signing.generate_presigned_url("get_object", Params=params, ExpiresIn=URL_SECONDS))

    def has_room_for(self, size: int) -> bool:
        Pulse.of(self.bucket).check()
        return size <= MAX_OBJECT_SIZE

    def write(self, upload: UUID, offset: int, chunks: Iterable[bytes], may_write: Callable[[], bool]) -> bool:
        """Only a whole at once: parts go to the bucket without passing here."""
        if offset:
            raise NotImplementedError("parts are put into the bucket directly")
        if not may_write():
            return False
        with translated():
            put(self.bucket, upload_key(upload), chunks)
        return True

    def sealed(self, upload: UUID, multipart_id: str = "") -> AbstractContextManager[SealedUpload]:
        Pulse.of(self.bucket).check()
        with translated():
            if multipart_id:
                complete(self.bucket, upload_key(upload), multipart_id)
        # Nothing has to be given back: an object that was completed cannot be written to.
        return nullcontext(SealedObject(self.bucket, upload_key(upload)))

    def discard(self, upload: UUID) -> None:
        key, client = upload_key(upload), self.bucket.patient
        with translated():
            for begun in self._begun(key):
                try:
                    client.abort_multipart_upload(Bucket=self.name, Key=key, UploadId=begun["UploadId"])
                except ClientError as error:
                    if code_of(error) not in ABSENT:
                        raise
            client.delete_object(Bucket=self.name, Key=key)
        Hashing.forget(key)

    def uploads(self) -> Iterator[tuple[UUID, datetime]]:
        Pulse.of(self.bucket).check()
        with translated():
            pages = self.bucket.patient.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix="uploads/")
            found = [(line["Key"], line["LastModified"]) for page in pages for line in page.get("Contents", [])]
            found += [(line["Key"], line["Initiated"]) for line in self._begun("uploads/")]
        for key, touched_at in found:
            try:
                yield UUID(key.removeprefix("uploads/")), touched_at
            except ValueError:
                continue  # not ours

    def _begun(self, prefix: str) -> Iterator[dict[str, Any]]:
        pages = self.bucket.patient.get_paginator("list_multipart_uploads").paginate(Bucket=self.name, Prefix=prefix)
        for page in pages:
            yield from page.get("Uploads", [])
