"""Parts of uploads that publishers put into the bucket themselves, to addresses that are signed for them."""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from typing import BinaryIO, cast
from uuid import UUID

from botocore.exceptions import ClientError

from bundles.storage.availability import Pulse
from bundles.storage.multipart import MAX_PARTS, MIB
from bundles.storage.object_file import opened
from bundles.storage.s3_client import ABSENT, Bucket, code_of, translated

# How long a signed address is good, for uploads and downloads alike.
URL_SECONDS = 15 * 60
LEAST_PART_SIZE = 16 * MIB
# What S3 takes in one PUT.
MAX_WHOLE_SIZE = 5 * 1024**3


def upload_key(upload: UUID) -> str:
    """Where the bytes of an upload lie in the bucket."""
    return f"uploads/{upload}"


@dataclass(frozen=True, slots=True)
class Address:
    """Where to PUT one part, with which headers. Any other content is refused there."""

    number: int
    url: str
    headers: dict[str, str]


class DirectUploads:
    """Multipart uploads of one bucket. Every call raises `Unavailable` when storage is away."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.name = bucket.bucket_name

    def part_size(self, size: int) -> int:
        """How large the parts of such a blob are: S3 takes at most 10,000 of them."""
        return max(LEAST_PART_SIZE, -(-size // MAX_PARTS // MIB) * MIB)

    def begin(self, upload: UUID) -> str:
        """Start a multipart upload. Returns the storage's own id of it."""
        Pulse.of(self.bucket).check()
        with translated():
            begun = self.bucket.client.create_multipart_upload(
                Bucket=self.name, Key=upload_key(upload), ContentType="application/octet-stream"
            )
            return str(begun["UploadId"])

    def abort(self, upload: UUID, multipart_id: str) -> None:
        """Forget a multipart upload and its parts."""
        with translated():
            self.bucket.client.abort_multipart_upload(Bucket=self.name, Key=upload_key(upload), UploadId=multipart_id)

    def address(self, upload: UUID, multipart_id: str, number: int, md5: str) -> Address:
        """Where to PUT the part with that MD5 (32 hex digits). It is what S3 compares the arriving bytes with.

        MD5 only finds damage on the way: what a blob is, its sha256 decides, over the whole.
        """
        content_md5 = base64.b64encode(bytes.fromhex(md5)).decode()
        params = {
            "Bucket": self.name, "Key": upload_key(upload), "UploadId": multipart_id, "PartNumber": number,
            "ContentMD5": content_md5,
        }  # fmt: skip
        url = self.bucket.signing.generate_presigned_url("upload_part", Params=params, ExpiresIn=URL_SECONDS)
        return Address(number, url, {"Content-MD5": content_md5})

    def whole_address(self, upload: UUID, size: int) -> str:
        """Where to PUT a whole of exactly so many bytes, without parts."""
        Pulse.of(self.bucket).check()
        params = {"Bucket": self.name, "Key": upload_key(upload), "ContentLength": size}
        return str(self.bucket.signing.generate_presigned_url("put_object", Params=params, ExpiresIn=URL_SECONDS))

    def whole_size(self, upload: UUID) -> int:
        """How many bytes arrived there; 0 if none did."""
        with translated():
            try:
                head = self.bucket.client.head_object(Bucket=self.name, Key=upload_key(upload))
            except ClientError as error:
                if code_of(error) in ABSENT:
                    return 0
                raise
            return int(head["ContentLength"])

    def open_whole(self, upload: UUID) -> BinaryIO:
        """What arrived there, seekable. Raises `NotFound`."""
        return cast(BinaryIO, opened(self.bucket, upload_key(upload)))

    def arrived(self, upload: UUID, multipart_id: str) -> dict[int, tuple[int, str]]:
        """Of each part that is there its size, and its ETag, which is the MD5 of its bytes with most storages."""
        Pulse.of(self.bucket).check()
        call = {"Bucket": self.name, "Key": upload_key(upload), "UploadId": multipart_id}
        with translated():
            pages: Iterable[dict[str, list[dict[str, object]]]] = self.bucket.client.get_paginator(
                "list_parts"
            ).paginate(**call)
            return {
                int(str(part["PartNumber"])): (int(str(part["Size"])), str(part["ETag"]).strip('"'))
                for page in pages
                for part in page.get("Parts", [])
            }
