"""An object of the bucket as a file: read as it comes, in constant memory, from any place on."""

import io
from typing import Any

from bundles.storage.s3_client import Bucket, translated

BUFFER_SIZE = 1024 * 1024


class RemoteFile(io.RawIOBase):
    """The bytes of one object. Seeking costs a new request with the next read.

    Without `known`, its ETag and size, storage is asked for them. Raises `NotFound` then, and `Unavailable` whenever
    storage is away.
    """

    def __init__(self, bucket: Bucket, key: str, known: tuple[str, int] | None = None) -> None:
        super().__init__()
        self.bucket = bucket
        self.key = key
        self._body: Any = None
        self._position = 0
        self.etag, self.size = known or _look(bucket, key)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        if start + offset != self._position:
            self._drop()
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
                raise OSError("storage sent fewer bytes than it announced")
        buffer[: len(chunk)] = chunk
        self._position += len(chunk)
        return len(chunk)

    def close(self) -> None:
        self._drop()
        super().close()

    def _drop(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.close()


def _look(bucket: Bucket, key: str) -> tuple[str, int]:
    with translated():
        head = bucket.client.head_object(Bucket=bucket.bucket_name, Key=key)
    return str(head["ETag"]), int(head["ContentLength"])


def opened(bucket: Bucket, key: str) -> io.BufferedReader:
    """The object at `key` as an ordinary file."""
    return io.BufferedReader(RemoteFile(bucket, key), BUFFER_SIZE)
