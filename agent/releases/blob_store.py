"""Files on their way to a release: stored by their digest, complete or as a `.part` that is continued.

    <sha256>.part ──all bytes, right digest, fsync──► <sha256> ──linked into a release──► (dropped)
        └── wrong digest ──► deleted

The store only holds what is being fetched: once a release is complete its files belong to it alone, so nothing that
runs shares bytes with the store.
"""

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from agent.atomic_files import make_directory, open_regular, remove, sync_directory
from agent.errors import TryLater
from agent.server.transport import Stream, whole_number

BLOCK_SIZE = 1024 * 1024
SYNC_SIZE = 32 * 1024 * 1024

Hash = Any  # hashlib's objects have no public type
Check = Callable[[], None]
Progress = Callable[[int], None]
Open = Callable[[int], AbstractContextManager[Stream]]


class WrongBytes(Exception):
    """What arrived is not what the manifest names; it was deleted."""


class Store:
    """The blobs in one directory. `check` is called at each chunk and raises when the work is no longer wanted."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        make_directory(directory)

    def path(self, sha256: str) -> Path:
        return self.directory / sha256

    def part(self, sha256: str) -> Path:
        return self.directory / f"{sha256}.part"

    def has(self, sha256: str) -> bool:
        return self.path(sha256).exists()

    def missing(self, sha256: str, size: int) -> int:
        """How many bytes of a blob are still to come."""
        if self.has(sha256):
            return 0
        part = self.part(sha256)
        return max(0, size - part.stat().st_size) if part.exists() else size

    def size(self) -> int:
        """How many bytes are here."""
        return sum(path.lstat().st_size for path in self.directory.iterdir())

    def fetch(self, sha256: str, size: int, open_at: Open, check: Check, progress: Progress) -> None:
        """Get a blob, continuing what is there. `open_at` asks the server for the bytes from a place on.

        Raises:
            WrongBytes: the digest or the size is wrong; nothing of it is kept.
            TryLater: the bytes stopped coming; what came is kept.
            OSError: it cannot be written.
        """
        part = self.part(sha256)
        descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            digest, have = self._rehash(file, size, check, progress)
            if have < size:
                with open_at(have) as stream:
                    digest, have = self._receive(file, stream, digest, have, size, check, progress)
            if have < size:
                os.fsync(descriptor)
                raise TryLater(f"The bytes stopped coming after {have} of {size}.")
            self._finish(file, sha256, digest, have == size)

    def copy(self, sha256: str, size: int, source: Path, check: Check, progress: Progress) -> bool:
        """Get a blob from a file on this device. False, and nothing is kept, if that is not the same bytes."""
        part = self.part(sha256)
        digest, have = hashlib.sha256(), 0
        try:
            read = open_regular(source)
        except OSError:
            return False
        with read:
            if os.fstat(read.fileno()).st_size != size:
                return False  # a program may have made anything of it, also far more than fits on the disk
            with suppress(WrongBytes), part.open("wb", buffering=0) as file:
                for block in _blocks(read.read):
                    check()
                    have += len(block)
                    if have > size:
                        break
                    _write(file, block)
                    digest.update(block)
                    progress(have)
                self._finish(file, sha256, digest, have == size)
                return True
        return False

    def keep_only(self, wanted: set[str]) -> None:
        """Delete everything but these blobs and their parts."""
        for path in self.directory.iterdir():
            if path.name.removesuffix(".part") not in wanted:
                remove(path)

    def _rehash(self, file: io.FileIO, size: int, check: Check, progress: Progress) -> tuple[Hash, int]:
        """The digest of what is there: a state of the hash that was saved could not be believed after a power cut."""
        digest, have = hashlib.sha256(), 0
        if os.fstat(file.fileno()).st_size > size:
            file.truncate(0)
        for block in _blocks(file.read):
            check()
            have += len(block)
            digest.update(block)
            progress(have)
        return digest, have

    def _receive(
        self, file: io.FileIO, stream: Stream, digest: Hash, have: int, size: int,
        check: Check, progress: Progress,
    ) -> tuple[Hash, int]:  # fmt: skip
        if stream.status == 416 or (stream.status == 206 and not _continues(stream, have)):
            file.truncate(0)
            raise TryLater("The server has another idea of where to go on; beginning anew.")
        if stream.status == 200 and have:
            file.seek(0)
            file.truncate(0)
            digest, have = hashlib.sha256(), 0
        if _is_another(stream, size):
            file.truncate(0)
            raise WrongBytes("What the server holds under this digest has another size.")
        synced = have
        for chunk in stream.chunks():
            check()
            have += len(chunk)
            if have > size:
                break
            _write(file, chunk)
            digest.update(chunk)
            progress(have)
            if have - synced >= SYNC_SIZE:
                os.fdatasync(file.fileno())
                synced = have
        return digest, have

    def _finish(self, file: io.FileIO, sha256: str, digest: Hash, is_whole: bool) -> None:
        part = self.part(sha256)
        if not is_whole or digest.hexdigest() != sha256:
            part.unlink()
            raise WrongBytes(f"What arrived is not the file with the sha256 {sha256}.")
        os.fsync(file.fileno())
        part.replace(self.path(sha256))
        sync_directory(self.directory)


def _is_another(stream: Stream, size: int) -> bool:
    """Whether the answer announces bytes that cannot be the file: asking for them again and again would not end.

    A page of text is nobody's file but that of a network that wants a login: that passes.
    """
    if stream.status == 206:
        total = stream.headers.get("Content-Range", "").rpartition("/")[2]
    else:
        total = stream.headers.get("Content-Length", "")
    is_page = stream.headers.get("Content-Type", "").startswith("text/")
    announced = whole_number(total)
    return announced is not None and announced != size and not is_page


def _continues(stream: Stream, have: int) -> bool:
    return stream.headers.get("Content-Range", "").startswith(f"bytes {have}-")


def _blocks(read: Callable[[int], bytes | None]) -> Iterator[bytes]:
    while block := read(BLOCK_SIZE):
        yield block


def _write(file: io.FileIO, data: bytes) -> None:
    """Write all of it: an unbuffered file may take only a part."""
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]
