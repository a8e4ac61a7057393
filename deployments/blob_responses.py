"""Responses with the bytes of a blob from the local disk: all of them or a range, in constant memory.

A large response occupies a web server's thread until the last byte is sent. So that slow devices leave threads for
heartbeats and for other downloads, half of a process's threads may send blobs, each device gets one download at a time
from a machine, and a device that is too slow is disconnected. It resumes later with a Range request.
"""

import re
import socket
import threading
import weakref
from contextlib import suppress
from typing import BinaryIO
from uuid import UUID

from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseBase

from deployments.download_slots import SLOTS
from foundation.errors import ApiError, Unavailable

# A response up to this size fits into the socket's send buffer, so the thread does not wait and needs no slot.
SMALL_SIZE = 64 * 1024
BLOCK_SIZE = 256 * 1024
RETRY_AFTER_SECONDS = 2
# A device whose average rate over a window is below this is disconnected.
MIN_BYTES_PER_SECOND = 64 * 1024
WINDOW_SECONDS = 15.0
# The kernel drops a connection whose peer acknowledges nothing for this long.
STALLED_SECONDS = 60

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")


class BadRange(ApiError):
    """The range lies outside the blob."""

    status = 416


class Transfer:
    """A file-like window of `length` bytes from `start`. It occupies a slot until it is closed.

    It has no `fileno` on purpose: the server then reads block by block, which shows how fast the device receives.
    """

    def __init__(self, file: BinaryIO, start: int, length: int, device_id: UUID) -> None:
        file.seek(start)
        self.file = file
        self.device_id = device_id
        self.remaining = length
        self.is_open = True
        self.timer: threading.Timer | None = None

    def read(self, size: int = -1) -> bytes:
        chunk = self.file.read(self.remaining if size < 0 else min(size, self.remaining))
        self.remaining -= len(chunk)
        return chunk

    def watch(self, connection: socket.socket) -> None:
        """Disconnect the device if it receives too little from now on."""
        arguments = (weakref.ref(self), connection, self.remaining)
        self.timer = threading.Timer(WINDOW_SECONDS, _check_rate, arguments)
        self.timer.daemon = True
        self.timer.start()

    def close(self) -> None:
        """Release the slot. Idempotent."""
        if self.is_open:
            self.is_open = False
            if self.timer is not None:
                self.timer.cancel()
            self.file.close()
            SLOTS.release(self.device_id)

    def __del__(self) -> None:
        # A response that never reached the server, because something failed after the view, is not closed by it.
        # Django replaces this object's `close` with that of the response, which ends a request and closes its database
        # connection. That must not happen to another request during which this object is garbage-collected.
        Transfer.close(self)


def _check_rate(reference: "weakref.ref[Transfer]", connection: socket.socket, remaining_before: int) -> None:
    """Disconnect a device that received too little in the last window; otherwise watch the next one."""
    transfer = reference()
    if transfer is None or not transfer.is_open:
        return
    if remaining_before - transfer.remaining >= MIN_BYTES_PER_SECOND * WINDOW_SECONDS:
        transfer.watch(connection)
        return
    with suppress(OSError):  # it may be closed already
        connection.shutdown(socket.SHUT_RDWR)


def requested_range(header: str, size: int) -> tuple[int, int] | None:
    """Return first byte and length of a single range (RFC 9110, 14.1.2).

    Return None, meaning the whole blob, if the header is not a single valid range.

    Raises `BadRange` (`bad_range`, with `size`) if the blob has no byte in the range.
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:  # the last bytes
        length = min(int(last), size)
        start, end = size - length, size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None  # malformed
    if start >= end:
        raise BadRange("bad_range", f"The blob has {size} bytes, and none in this range.", size=size)
    return start, end - start


def send_blob(request: HttpRequest, file: BinaryIO, size: int, etag: str, device_id: UUID) -> HttpResponseBase:
    """Return a response with the requested bytes. It closes `file`, now or after the last byte.

    Raises `BadRange`, `Unavailable` (`busy`).
    """
    try:
        byte_range = requested_range(_range_header(request, etag), size)
        start, length = byte_range or (0, size)
        if length <= SMALL_SIZE:
            with file:
                file.seek(start)
                response: HttpResponseBase = HttpResponse(file.read(length))
        else:
            response = _streamed(request, file, start, length, device_id)
    except ApiError:
        file.close()
        raise
    response.status_code = 206 if byte_range else 200
    response["Content-Type"] = "application/octet-stream"
    response["Content-Length"] = str(length)
    response["Accept-Ranges"] = "bytes"
    response["ETag"] = etag
    if byte_range:
        response["Content-Range"] = f"bytes {start}-{start + length - 1}/{size}"
    return response


def _range_header(request: HttpRequest, etag: str) -> str:
    """Return the Range header.

    Return an empty string if `If-Range` names another blob: the device's partial file is then useless.
    """
    if request.headers.get("If-Range", etag) != etag:
        return ""
    return request.headers.get("Range", "")


def _streamed(request: HttpRequest, file: BinaryIO, start: int, length: int, device_id: UUID) -> FileResponse:
    if not SLOTS.acquire(device_id):
        raise Unavailable("busy", "Too many downloads are running; try again later.", RETRY_AFTER_SECONDS)
    transfer = Transfer(file, start, length, device_id)
    connection = request.META.get("gunicorn.socket")
    if isinstance(connection, socket.socket):
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_SECONDS * 1000)
        transfer.watch(connection)
    response = FileResponse(transfer)
    response.block_size = BLOCK_SIZE
    return response
