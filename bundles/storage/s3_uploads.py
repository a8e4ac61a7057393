"""Presigned URLs, with which publishers and browsers put bytes into the bucket themselves."""

import base64
from dataclasses import dataclass
from typing import BinaryIO
from uuid import UUID

from botocore.exceptions import ClientError

from bundles.storage.s3_client import ABSENT, Bucket, code_of, translated
from bundles.storage.s3_objects import MAX_PARTS, MIB, open_object

# How long a presigned URL is valid, for uploads and downloads alike.
URL_SECONDS = 15 * 60
MIN_PART_SIZE = 16 * MIB
# The maximum that S3 accepts in one PUT.
MAX_WHOLE_SIZE = 5 * 1024**3


def upload_key(upload: UUID) -> str:
    """Return the key of an upload's bytes in the bucket."""
    return f"uploads/{upload}"


@dataclass(frozen=True, slots=True)
class PartURL:
    """The presigned URL and the headers for one part. Storage refuses any other content."""

    number: int
    url: str
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class ArrivedPart:
    """A part in the bucket: its size in bytes, and its ETag, which is the MD5 of its bytes with most storages."""

    size: int
    etag: str


class DirectUploads:
    """Multipart uploads to one bucket. Every call raises `Unavailable` if storage does not respond."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.name = bucket.bucket_name

    def part_size(self, size: int) -> int:
        """Return the part size for a blob of `size` bytes: S3 accepts at most 10,000 parts."""
        return max(MIN_PART_SIZE, -(-size // MAX_PARTS // MIB) * MIB)

    def begin(self, upload: UUID) -> str:
        """Begin a multipart upload. Return the bucket's id for it."""
        self.bucket.availability.check()
        with translated():
            created = self.bucket.client.create_multipart_upload(
                Bucket=self.name, Key=upload_key(upload), ContentType="application/octet-stream"
            )
            return str(created["UploadId"])

    def abort(self, upload: UUID, multipart_id: str) -> None:
        """Delete a multipart upload and its parts."""
        with translated():
            self.bucket.client.abort_multipart_upload(Bucket=self.name, Key=upload_key(upload), UploadId=multipart_id)

    def part_url(self, upload: UUID, multipart_id: str, number: int, md5: str) -> PartURL:
        """Return the presigned URL for the part whose bytes have this MD5 (32 hex digits). Storage refuses other bytes.

        MD5 only detects damage in transit. The sha256 of all bytes decides what a blob is.
        """
        content_md5 = base64.b64encode(bytes.fromhex(md5)).decode()
        params = {
            "Bucket": self.name, "Key": upload_key(upload), "UploadId": multipart_id, "PartNumber": number,
            "ContentMD5": content_md5,
        }  # fmt: skip
        url = self.bucket.signing.generate_presigned_url("upload_part", Params=params, ExpiresIn=URL_SECONDS)
        return PartURL(number, url, {"Content-MD5": content_md5})

    def whole_url(self, upload: UUID, size: int) -> str:
        """Return the presigned URL to PUT exactly `size` bytes to in one request."""
        self.bucket.availability.check()
        params = {"Bucket": self.name, "Key": upload_key(upload), "ContentLength": size}
        return str(self.bucket.signing.generate_presigned_url("put_object", Params=params, ExpiresIn=URL_SECONDS))

    def whole_size(self, upload: UUID) -> int:
        """Return how many bytes arrived at `whole_url`; 0 if none did."""
        with translated():
            try:
                head = self.bucket.client.head_object(Bucket=self.name, Key=upload_key(upload))
            except ClientError as error:
                if code_of(error) in ABSENT:
                    return 0
                raise
            return int(head["ContentLength"])

    def open_whole(self, upload: UUID) -> BinaryIO:
        """Return what arrived at `whole_url` as a seekable file. Raises `NotFound`."""
        return open_object(self.bucket, upload_key(upload))

    def arrived(self, upload: UUID, multipart_id: str) -> dict[int, ArrivedPart]:
        """Return the parts in the bucket, by number. Raises `NotFound` if the bucket has no such multipart upload."""
        self.bucket.availability.check()
        call = {"Bucket": self.name, "Key": upload_key(upload), "UploadId": multipart_id}
        with translated():
            pages = self.bucket.client.get_paginator("list_parts").paginate(**call)
            return {
                int(part["PartNumber"]): ArrivedPart(int(part["Size"]), str(part["ETag"]).strip('"'))
                for page in pages
                for part in page.get("Parts", [])
            }
