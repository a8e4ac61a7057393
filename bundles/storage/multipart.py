"""Multipart uploads that the control plane makes or ends by itself: server-side copies, and wholes of unknown size."""

import base64
import hashlib
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import ClientError

from bundles.errors import DamagedBlob
from bundles.storage.s3_client import ABSENT, Bucket, code_of

MIB = 1024 * 1024
# S3's own limit is 10,000 parts; a margin stays.
MAX_PARTS = 9000
WRITE_SIZE = 16 * MIB
# A copy above this size is made in parts, so that no call lasts longer than a client waits. S3 itself stops at 5 GB.
COPY_SIZE = 128 * MIB
# What the parts that are there can never become.
HOPELESS = {"EntityTooSmall", "InvalidPart", "InvalidPartOrder"}


def complete(bucket: Bucket, key: str, multipart_id: str) -> None:
    """Make one object of the parts. Harmless when that is done already, or when there is nothing to complete."""
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


@contextmanager
def _multipart(bucket: Bucket, key: str) -> Iterator[tuple[dict[str, str], list[dict[str, Any]]]]:
    """A multipart upload of our own: the call's members, and the parts to be listed. Aborted when anything fails."""
    client = bucket.patient
    begun = client.create_multipart_upload(Bucket=bucket.bucket_name, Key=key)
    call = {"Bucket": bucket.bucket_name, "Key": key, "UploadId": begun["UploadId"]}
    parts: list[dict[str, Any]] = []
    try:
        yield call, parts
        client.complete_multipart_upload(**call, MultipartUpload={"Parts": parts})
    except BaseException:
        client.abort_multipart_upload(**call)
        raise


def copy(bucket: Bucket, key: str, etag: str, size: int, final: str) -> None:
    """Let the storage copy `key`, which must still be what `etag` says, to `final`."""
    source = {"Bucket": bucket.bucket_name, "Key": key}
    if size > COPY_SIZE:
        _copy_in_parts(bucket, source, etag, size, final)
    else:
        bucket.patient.copy_object(Bucket=bucket.bucket_name, Key=final, CopySource=source, CopySourceIfMatch=etag)


def _copy_in_parts(bucket: Bucket, source: dict[str, str], etag: str, size: int, final: str) -> None:
    step = max(COPY_SIZE, -(-size // MAX_PARTS))
    with _multipart(bucket, final) as (call, parts):
        for number, start in enumerate(range(0, size, step), 1):
            end = min(start + step, size) - 1
            copied = bucket.patient.upload_part_copy(
                **call, PartNumber=number, CopySource=source, CopySourceIfMatch=etag,
                CopySourceRange=f"bytes={start}-{end}",
            )  # fmt: skip
            parts.append({"PartNumber": number, "ETag": copied["CopyPartResult"]["ETag"]})


def put(bucket: Bucket, key: str, chunks: Iterable[bytes], sha256: str = "") -> None:
    """Write a whole of unknown size, in constant memory.

    Raises `DamagedBlob`, and keeps nothing, when its digest is not the `sha256` that was given.
    """
    digest = hashlib.sha256()
    pieces = _pieces(chunks)
    first = next(pieces, b"")
    digest.update(first)
    if len(first) < WRITE_SIZE:
        _check(digest, sha256)
        bucket.patient.put_object(Bucket=bucket.bucket_name, Key=key, Body=first, ContentMD5=_md5(first))
        return
    with _multipart(bucket, key) as (call, parts):
        parts.append(_part(bucket, call, 1, first))
        for number, piece in enumerate(pieces, 2):
            digest.update(piece)
            parts.append(_part(bucket, call, number, piece))
        _check(digest, sha256)


def _check(digest: "hashlib._Hash", sha256: str) -> None:
    if sha256 and digest.hexdigest() != sha256:
        raise DamagedBlob(f"The bytes that were to be stored as {sha256} are others.")


def _part(bucket: Bucket, call: dict[str, str], number: int, piece: bytes) -> dict[str, Any]:
    answer = bucket.patient.upload_part(**call, PartNumber=number, Body=piece, ContentMD5=_md5(piece))
    return {"PartNumber": number, "ETag": answer["ETag"]}


def _md5(piece: bytes) -> str:
    """What the storage compares the arriving bytes with."""
    return base64.b64encode(hashlib.md5(piece, usedforsecurity=False).digest()).decode()


def _pieces(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of `WRITE_SIZE`, the last one shorter."""
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
