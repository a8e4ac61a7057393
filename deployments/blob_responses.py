"""Blobs on their way to devices: whole or from some byte on, in constant memory, one at a time in a process.

A slow device would otherwise take one thread after another away from heartbeats. Whoever comes second is told to come
back; what is small enough to be handed to the kernel at once may always pass.
"""

import re
import socket
import threading
from typing import BinaryIO

from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseBase

from foundation.errors import ApiError, Unavailable

SMALL_SIZE = 64 * 1024
BLOCK_SIZE = 256 * 1024
RETRY_AFTER_SECONDS = 2
# A device that takes no byte for so long is cut off; it resumes by Range.
STALLED_SECONDS = 60

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_slot = threading.Lock()


class BadRange(ApiError):
    """The range lies outside the blob."""

    status = 416


class Transfer:
    """A file-like window of `length` bytes from `start`. It occupies the process's one slot until it is closed."""

    def __init__(self, file: BinaryIO, start: int, length: int) -> None:
        file.seek(start)
        self.file = file
        self.left = length
        self.is_open = True

    def read(self, size: int = -1) -> bytes:
        chunk = self.file.read(self.left if size < 0 else min(size, self.left))
        self.left -= len(chunk)
        return chunk

    def fileno(self) -> int:
        """For servers that let the kernel copy; they send as many bytes as Content-Length says."""
        return self.file.fileno()

    def close(self) -> None:
        """Give the slot back. Harmless when repeated."""
        if self.is_open:
            self.is_open = False
            self.file.close()
            _slot.release()

    def __del__(self) -> None:
        # An answer that never reached the server, because something failed behind the view, is not closed by it.
        # Django puts the answer's close() in place of ours. That ends a request and gives its database connection
        # back, and garbage is collected in the midst of another one's.
        Transfer.close(self)


def wanted_range(header: str, size: int) -> tuple[int, int] | None:
    """First byte and length of a single range (RFC 9110, 14.1.2). None to send the whole, as for any other header.

    Raises `BadRange` (`bad_range`, with `size`) if no byte of it exists.
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:  # the last so many bytes
        length = min(int(last), size)
        start, end = size - length, size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None  # not a range at all
    if start >= end:
        raise BadRange("bad_range", f"The blob has {size} bytes, and none of those asked for.", size=size)
    return start, end - start


def send(request: HttpRequest, file: BinaryIO, size: int, etag: str) -> HttpResponseBase:
    """Answer with the bytes that the request asks for; closes `file` now or after the last byte.

    Raises `BadRange`, `Unavailable` (`busy`).
    """
    try:
        found = wanted_range(_range_header(request, etag), size)
        start, length = found or (0, size)
        if length <= SMALL_SIZE:
            with file:
                file.seek(start)
                response: HttpResponseBase = HttpResponse(file.read(length))
        else:
            response = _begin(request, file, start, length)
    except ApiError:
        file.close()
        raise
    response.status_code = 206 if found else 200
    response["Content-Type"] = "application/octet-stream"
    response["Content-Length"] = str(length)
    response["Accept-Ranges"] = "bytes"
    response["ETag"] = etag
    if found:
        response["Content-Range"] = f"bytes {start}-{start + length - 1}/{size}"
    return response


def _range_header(request: HttpRequest, etag: str) -> str:
    """The Range header, unless the device's part is of something else (If-Range)."""
    if request.headers.get("If-Range", etag) != etag:
        return ""
    return request.headers.get("Range", "")


def _begin(request: HttpRequest, file: BinaryIO, start: int, length: int) -> FileResponse:
    if not _slot.acquire(blocking=False):
        raise Unavailable("busy", "Another transfer is under way here; try again.", RETRY_AFTER_SECONDS)
    transfer = Transfer(file, start, length)
    _cut_off_when_stalled(request)
    response = FileResponse(transfer)
    response.block_size = BLOCK_SIZE
    return response


def _cut_off_when_stalled(request: HttpRequest) -> None:
    connection = request.META.get("gunicorn.socket")
    if isinstance(connection, socket.socket) and hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_SECONDS * 1000)
