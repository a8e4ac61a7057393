"""The store of the blobs of the current download. Files are named by their sha256; `.part` files are incomplete.

    <sha256>.part ──all bytes, right digest, fsync──► <sha256> ──linked into a release──► (deleted)
        └── wrong digest ──► deleted

A complete release never shares a file with the store, so a running program cannot change a blob.
"""

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from agent.atomic_files import create_directory, open_regular, remove, sync_directory
from agent.errors import TryLater
from agent.server.transport import Stream, whole_number

BLOCK_SIZE = 1024 * 1024
SYNC_SIZE = 32 * 1024 * 1024

# Raises an error if the work has to stop.
StopCheck = Callable[[], None]
# Requests the bytes of a blob, starting at an offset.
OpenAt = Callable[[int], AbstractContextManager[Stream]]


class WrongBytes(Exception):
    """The received bytes do not match the manifest. They were deleted."""


@dataclass(frozen=True, slots=True)
class Blob:
    """The content of one file: its sha256 and its size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class Observer:
    """Callbacks of a transfer: `check` before each block, `progress` after it with the number of stored bytes."""

    check: StopCheck
    progress: Callable[[int], None]


class BlobStore:
    """The blobs in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        create_directory(directory)

    def path(self, sha256: str) -> Path:
        return self.directory / sha256

    def part(self, sha256: str) -> Path:
        return self.directory / f"{sha256}.part"

    def has(self, sha256: str) -> bool:
        return self.path(sha256).exists()

    def missing_size(self, blob: Blob) -> int:
        """Return how many bytes of a blob are missing."""
        if self.has(blob.sha256):
            return 0
        part = self.part(blob.sha256)
        return max(0, blob.size - part.stat().st_size) if part.exists() else blob.size

    def size(self) -> int:
        """Return how many bytes are in the store."""
        return sum(path.lstat().st_size for path in self.directory.iterdir())

    def download(self, blob: Blob, open_at: OpenAt, observer: Observer) -> None:
        """Download a blob from the server, or resume its download.

        Raises:
            WrongBytes: The digest or the size is wrong. The bytes are deleted.
            TryLater: The response ended early. The received bytes are kept.
            OSError: The blob cannot be written.
        """
        descriptor = os.open(self.part(blob.sha256), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            part = _Part(file, blob, observer)
            part.load()
            if part.size < blob.size:
                with open_at(part.size) as stream:
                    _receive(part, stream)
            if part.size < blob.size:
                os.fsync(descriptor)
                raise TryLater(f"The download stopped after {part.size} of {blob.size} bytes.")
            self._finish(part)

    def copy(self, blob: Blob, source: Path, observer: Observer) -> bool:
        """Copy a blob from a file on this device. If the file's contents differ, return False and store nothing."""
        try:
            original = open_regular(source)
        except OSError:
            return False
        with original:
            if os.fstat(original.fileno()).st_size != blob.size:
                return False  # a program changed the file, and it may be larger than the free disk space
            with suppress(WrongBytes), self.part(blob.sha256).open("wb", buffering=0) as file:
                part = _Part(file, blob, observer)
                part.append(_blocks(original.read))
                self._finish(part)
                return True
        return False

    def keep_only(self, wanted: set[str]) -> None:
        """Delete all but these blobs and their parts."""
        for path in self.directory.iterdir():
            if path.name.removesuffix(".part") not in wanted:
                remove(path)

    def _finish(self, part: "_Part") -> None:
        sha256 = part.blob.sha256
        path = self.part(sha256)
        if not part.is_valid:
            path.unlink()
            raise WrongBytes(f"The received bytes do not have the sha256 {sha256}.")
        os.fsync(part.file.fileno())
        path.replace(self.path(sha256))
        sync_directory(self.directory)


class _Part:
    """The open `.part` file of a blob, with the digest of its contents."""

    def __init__(self, file: io.FileIO, blob: Blob, observer: Observer) -> None:
        self.file = file
        self.blob = blob
        self.observer = observer
        self.size = 0
        self._digest = hashlib.sha256()

    @property
    def is_valid(self) -> bool:
        return self.size == self.blob.size and self._digest.hexdigest() == self.blob.sha256

    def load(self) -> None:
        """Hash the existing bytes. After a power cut, a saved hash state could not be trusted."""
        if os.fstat(self.file.fileno()).st_size > self.blob.size:
            self.file.truncate(0)
        for block in _blocks(self.file.read):
            self._count(block)

    def restart(self) -> None:
        """Delete the existing bytes."""
        self.file.seek(0)
        self.file.truncate(0)
        self.size = 0
        self._digest = hashlib.sha256()

    def append(self, blocks: Iterator[bytes]) -> None:
        """Write blocks until there are no more, or until they exceed the size of the blob."""
        synced = self.size
        for block in blocks:
            if self.size + len(block) > self.blob.size:
                self.size += len(block)
                return
            _write(self.file, block)
            self._count(block)
            if self.size - synced >= SYNC_SIZE:
                os.fdatasync(self.file.fileno())
                synced = self.size

    def _count(self, block: bytes) -> None:
        self.observer.check()
        self.size += len(block)
        self._digest.update(block)
        self.observer.progress(self.size)


def _receive(part: _Part, stream: Stream) -> None:
    """Append the received bytes. Raises `TryLater` or `WrongBytes`."""
    if stream.status == 416 or (stream.status == 206 and not _continues(stream, part.size)):
        part.restart()
        raise TryLater("The server did not continue where the download stopped, so the download starts from scratch.")
    if stream.status == 200 and part.size:
        part.restart()
    if _declares_other_size(stream, part.blob.size):
        part.restart()
        raise WrongBytes("The server's file with this digest has a different size.")
    part.append(stream.chunks())


def _declares_other_size(stream: Stream, size: int) -> bool:
    """Return whether the response declares a size that differs from the blob's, so that no retry can succeed.

    Ignore text responses: they may come from a captive portal, and a retry can succeed.
    """
    if stream.status == 206:
        total = stream.headers.get("Content-Range", "").rpartition("/")[2]
    else:
        total = stream.headers.get("Content-Length", "")
    is_page = stream.headers.get("Content-Type", "").startswith("text/")
    declared = whole_number(total)
    return declared is not None and declared != size and not is_page


def _continues(stream: Stream, offset: int) -> bool:
    return stream.headers.get("Content-Range", "").startswith(f"bytes {offset}-")


def _blocks(read: Callable[[int], bytes | None]) -> Iterator[bytes]:
    while block := read(BLOCK_SIZE):
        yield block


def _write(file: io.FileIO, data: bytes) -> None:
    """Write all bytes. One call of an unbuffered file's `write` may write only some of them."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
