"""Blobs on a local disk.

`flock` decides who may touch `uploads/<id>`; the kernel releases the lock when a process dies. Writers of parts share
it. The scheduler that hashes and promotes holds it alone. A writer checks the upload's state after it has the lock, so
that no byte changes between hashing and promotion.

Promotion is a hard link, not a rename: a link never replaces an existing name, and the upload keeps its own name until
the database has the blob. An interrupted promotion can therefore be repeated.
"""

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from bundles.errors import DamagedBlob, StorageFull, UploadBusy
from bundles.identifiers import Digest, digest_of
from foundation.errors import NotFound, Unavailable

CHUNK_SIZE = 1024 * 1024
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class DiskBlobs:
    """`bundles.storage.interface.Blobs` under one directory."""

    direct = None
    parallel_verifications = 1
    can_delete = True

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def open(self, sha256: str) -> BinaryIO:
        with _translated():
            try:
                return self.blob_path(sha256).open("rb")
            except FileNotFoundError:
                raise NotFound("unknown_blob", "There is no blob with this sha256.") from None

    def size(self, sha256: str) -> int:
        with _translated():
            try:
                return self.blob_path(sha256).stat().st_size
            except FileNotFoundError:
                raise NotFound("unknown_blob", "There is no blob with this sha256.") from None

    def exists(self, sha256: str) -> bool:
        with _translated():
            return self.blob_path(sha256).is_file()

    def url(self, sha256: str) -> str | None:
        return None

    def delete(self, sha256: str) -> None:
        """Processes that have the blob open can still read it to its end."""
        with _translated():
            self.blob_path(sha256).unlink(missing_ok=True)

    def has_space_for(self, size: int, reserved: int = 0) -> bool:
        with _translated():
            self.directory.mkdir(parents=True, exist_ok=True)
            return shutil.disk_usage(self.directory).free >= size + reserved

    def write(self, upload: UUID, offset: int, chunks: Iterable[bytes], may_write: Callable[[], bool]) -> bool:
        with _translated(), self._opened(upload) as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            if not may_write():
                return False
            for chunk in chunks:
                offset += _write_all(file, chunk, offset)
            os.fsync(file)
            return True

    @contextmanager
    def sealed(self, upload: UUID, multipart_id: str = "") -> Iterator["SealedFile"]:
        with _translated(), self._opened(upload) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UploadBusy from None
            yield SealedFile(self, file, self._upload_path(upload))

    def has_upload(self, upload: UUID) -> bool:
        """Return whether there are bytes of this upload."""
        return self._upload_path(upload).exists()

    def discard(self, upload: UUID) -> None:
        with _translated():
            self._upload_path(upload).unlink(missing_ok=True)

    def uploads(self) -> Iterator[tuple[UUID, datetime]]:
        with _translated():
            for path in (self.directory / "uploads").glob("*"):
                try:
                    yield UUID(path.name), datetime.fromtimestamp(path.stat().st_mtime, UTC)
                except (ValueError, FileNotFoundError):
                    continue  # not an upload, or deleted since the listing

    def blob_path(self, sha256: str) -> Path:
        """Return the final key of a blob."""
        return self.directory / "blobs" / sha256[:2] / sha256

    def _upload_path(self, upload: UUID) -> Path:
        return self.directory / "uploads" / str(upload)

    @contextmanager
    def _opened(self, upload: UUID) -> Iterator[int]:
        """Open the upload's file. Its name is durable before anything is written, so no part can lose its file."""
        path = self._upload_path(upload)
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            create_directory(path.parent)
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            sync_directory(path.parent)
        try:
            yield file
        finally:
            os.close(file)


class SealedFile:
    """`bundles.storage.interface.SealedUpload`: `file` is a descriptor of the file at `path`."""

    def __init__(self, blobs: DiskBlobs, file: int, path: Path) -> None:
        self.blobs = blobs
        self.file = file
        self.path = path

    def digest(self) -> Digest:
        return digest_of(_chunks(self.file))

    def promote(self, sha256: str) -> None:
        final = self.blobs.blob_path(sha256)
        os.fsync(self.file)
        create_directory(final.parent)
        try:
            os.link(self.path, final)
        except FileExistsError:
            self._check_present(final, sha256)
        sync_directory(final.parent)

    def _check_present(self, final: Path, sha256: str) -> None:
        """Check that the same bytes were promoted before, by this upload or by another."""
        with final.open("rb") as present:
            if os.path.sameopenfile(present.fileno(), self.file):
                return
            if digest_of(_chunks(present.fileno())).sha256 != sha256:
                raise DamagedBlob(
                    f"The object {final} does not match its name: move it aside, then send the file again."
                )
            os.fsync(present.fileno())


def create_directory(path: Path) -> None:
    """Create `path` and its parents, each durable in the directory above it."""
    if path.is_dir():
        return
    create_directory(path.parent)
    path.mkdir(exist_ok=True)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in `path` durable."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _write_all(file: int, chunk: bytes, offset: int) -> int:
    remaining = memoryview(chunk)
    while remaining:
        written = os.pwrite(file, remaining, offset)
        remaining, offset = remaining[written:], offset + written
    return len(chunk)


def _chunks(file: int) -> Iterator[bytes]:
    offset = 0
    while chunk := os.pread(file, CHUNK_SIZE, offset):
        yield chunk
        offset += len(chunk)


@contextmanager
def _translated() -> Iterator[None]:
    """Raise the disk's errors as the API's errors."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise StorageFull from error
        raise Unavailable("storage_unavailable", "The server's bundle storage cannot be used right now.") from error
