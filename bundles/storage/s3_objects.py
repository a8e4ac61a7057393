"""Reads and writes single objects of the bucket in constant memory."""

import base64
import hashlib
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

from botocore.exceptions import ClientError

from bundles.errors import DamagedBlob
from bundles.identifiers import Hashed
from bundles.storage.s3_client import ABSENT, Bucket, code_of, translated

MIB = 1024 * 1024
READ_BUFFER_SIZE = MIB
# S3 allows 10,000 parts; this leaves a margin.
MAX_PARTS = 9000
WRITE_SIZE = 16 * MIB
# Larger objects are copied in parts, so that no call lasts longer than the client's timeout. S3's limit is 5 GB.
COPY_SIZE = 128 * MIB
# S3's errors if the parts of a multipart upload can never become an object.
HOPELESS = {"EntityTooSmall", "InvalidPart", "InvalidPartOrder"}


class RemoteFile(io.RawIOBase):
    """The bytes of one object. Seeking costs a new request with the next read.

    `known` is the object's ETag and size in bytes. Without it, they are requested from storage, which may raise
    `NotFound`. Raises `Unavailable` whenever storage does not respond.
    """

    def __init__(self, bucket: Bucket, key: str, known: tuple[str, int] | None = None) -> None:
        super().__init__()
        self.bucket = bucket
        self.key = key
        self._body: Any = None
        self._position = 0
        self.etag, self.size = known or _head(bucket, key)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        if start + offset != self._position:
            self._close_body()
            self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        if self._position >= self.size:
            return 0
        with translated():
            if self._body is None:
                self._body = self.bucket.patient.get_object(
                    Bucket=self.bucket.bucket_name, Key=self.key, IfMatch=self.etag, Range=f"bytes={self._position}-"
                )["Body"]
            chunk = self._body.read(len(buffer))
            if not chunk:
                raise OSError("storage sent fewer bytes than it declared")
        buffer[: len(chunk)] = chunk
        self._position += len(chunk)
        return len(chunk)

    def close(self) -> None:
        self._close_body()
        super().close()

    def _close_body(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.close()


def _head(bucket: Bucket, key: str) -> tuple[str, int]:
    with translated():
        head = bucket.client.head_object(Bucket=bucket.bucket_name, Key=key)
    return str(head["ETag"]), int(head["ContentLength"])


def open_object(bucket: Bucket, key: str) -> BinaryIO:
    """Return the object at `key` as a seekable file. Raises `NotFound`, `Unavailable`."""
    return cast(BinaryIO, io.BufferedReader(RemoteFile(bucket, key), READ_BUFFER_SIZE))


def complete(bucket: Bucket, key: str, multipart_id: str) -> None:
    """Combine the parts of a multipart upload into one object. Idempotent; no error if there is nothing to complete."""
    call = {"Bucket": bucket.bucket_name, "Key": key, "UploadId": multipart_id}
    try:
        pages = bucket.patient.get_paginator("list_parts").paginate(**call)
        parts = [
            {"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for page in pages for part in page.get("Parts", [])
        ]
        if parts:
            bucket.patient.complete_multipart_upload(**call, MultipartUpload={"Parts": parts})
    except ClientError as error:
        if code_of(error) not in ABSENT | HOPELESS:
            raise


@dataclass
class _Multipart:
    """A multipart upload that this process creates: the arguments of its calls, and the parts written so far."""

    call: dict[str, str]
    parts: list[dict[str, Any]] = field(default_factory=list)

    def add(self, etag: str) -> None:
        self.parts.append({"PartNumber": self.next_number, "ETag": etag})

    @property
    def next_number(self) -> int:
        return len(self.parts) + 1


@contextmanager
def _multipart(bucket: Bucket, key: str) -> Iterator[_Multipart]:
    """Begin a multipart upload and complete it at the end, or abort it if anything fails."""
    client = bucket.patient
    created = client.create_multipart_upload(Bucket=bucket.bucket_name, Key=key)
    upload = _Multipart({"Bucket": bucket.bucket_name, "Key": key, "UploadId": created["UploadId"]})
    try:
        yield upload
        client.complete_multipart_upload(**upload.call, MultipartUpload={"Parts": upload.parts})
    except BaseException:
        client.abort_multipart_upload(**upload.call)
        raise


def copy(bucket: Bucket, key: str, etag: str, size: int, final: str) -> None:
    """Let storage copy the object at `key`, which must still have this ETag, to `final`."""
    source = {"Bucket": bucket.bucket_name, "Key": key}
    if size > COPY_SIZE:
        _copy_in_parts(bucket, source, etag, size, final)
    else:
        bucket.patient.copy_object(Bucket=bucket.bucket_name, Key=final, CopySource=source, CopySourceIfMatch=etag)


def _copy_in_parts(bucket: Bucket, source: dict[str, str], etag: str, size: int, final: str) -> None:
    part_size = max(COPY_SIZE, -(-size // MAX_PARTS))
    with _multipart(bucket, final) as upload:
        for start in range(0, size, part_size):
            end = min(start + part_size, size) - 1
            copied = bucket.patient.upload_part_copy(
                **upload.call, PartNumber=upload.next_number, CopySource=source, CopySourceIfMatch=etag,
                CopySourceRange=f"bytes={start}-{end}",
            )  # fmt: skip
            upload.add(copied["CopyPartResult"]["ETag"])


def put(bucket: Bucket, key: str, chunks: Iterable[bytes], sha256: str = "") -> None:
    """Write an object of unknown size.

    Raises `DamagedBlob`, and keeps nothing, if `sha256` is given and the bytes do not match it.
    """
    hashed = Hashed(chunks)
    pieces = _pieces(hashed)
    first = next(pieces, b"")
    if len(first) < WRITE_SIZE:
        _check(hashed, sha256)
        bucket.patient.put_object(Bucket=bucket.bucket_name, Key=key, Body=first, ContentMD5=_md5(first))
        return
    with _multipart(bucket, key) as upload:
        _put_part(bucket, upload, first)
        for piece in pieces:
            _put_part(bucket, upload, piece)
        _check(hashed, sha256)


def _check(hashed: Hashed, sha256: str) -> None:
    if sha256 and hashed.sha256 != sha256:
        raise DamagedBlob(f"The bytes to store as {sha256} have the sha256 {hashed.sha256}.")


def _put_part(bucket: Bucket, upload: _Multipart, piece: bytes) -> None:
    response = bucket.patient.upload_part(
        **upload.call, PartNumber=upload.next_number, Body=piece, ContentMD5=_md5(piece)
    )
    upload.add(response["ETag"])


def _md5(piece: bytes) -> str:
    """Return the checksum that storage compares with the bytes it receives."""
    return base64.b64encode(hashlib.md5(piece, usedforsecurity=False).digest()).decode()


def _pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in pieces of `WRITE_SIZE`, the last one shorter."""
    buffer = io.BytesIO()
    for chunk in chunks:
        buffer.write(chunk)
        if buffer.tell() >= WRITE_SIZE:
            whole = buffer.getvalue()
            yield from (whole[at : at + WRITE_SIZE] for at in range(0, len(whole) - WRITE_SIZE + 1, WRITE_SIZE))
            buffer = io.BytesIO()
            buffer.write(whole[len(whole) - len(whole) % WRITE_SIZE :])
    if buffer.tell():
        yield buffer.getvalue()
