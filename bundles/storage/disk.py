"""Blobs on a local disk.

Who may touch `uploads/<id>` is settled by `flock`, which the kernel gives back when a process dies: writers of parts
share the lock, the scheduler that hashes and promotes holds it alone. A writer asks for the upload's state after it has
the lock, so that no byte changes between hashing and promotion.

Promotion is a hard link, not a rename: a link never replaces what already has that name, and the upload keeps its own
name until the database knows the blob. Whatever is interrupted can therefore simply be done again.
"""

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO
from uuid import UUID

from bundles.errors import DamagedBlob, StorageFull, UploadBusy
from bundles.storage.presigned_uploads import DirectUploads
from foundation.errors import NotFound, Unavailable

CHUNK_SIZE = 1024 * 1024
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class DiskBlobs:
    """`bundles.storage.interface.Blobs` below one directory."""

    direct: DirectUploads | None = None

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

    def has_room_for(self, size: int) -> bool:
        with _translated():
            self.directory.mkdir(parents=True, exist_ok=True)
            return shutil.disk_usage(self.directory).free >= size

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
        """Whether bytes of this upload are here."""
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
                    continue  # not ours, or just gone

    def blob_path(self, sha256: str) -> Path:
        return self.directory / "blobs" / sha256[:2] / sha256

    def _upload_path(self, upload: UUID) -> Path:
        return self.directory / "uploads" / str(upload)

    @contextmanager
    def _opened(self, upload: UUID) -> Iterator[int]:
        """The upload's file; its name is durable before anything is written, so that no part is without its file."""
        path = self._upload_path(upload)
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            make_directory(path.parent)
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            sync_directory(path.parent)
        try:
            yield file
        finally:
            os.close(file)


class SealedFile:
    """`bundles.storage.sealed_upload.SealedUpload`: `file` is a descriptor of what lies at `path`."""

    def __init__(self, blobs: DiskBlobs, file: int, path: Path) -> None:
        self.blobs = blobs
        self.file = file
        self.path = path

    def digest(self) -> tuple[str, int]:
        return _digest(self.file)

    def promote(self, sha256: str) -> None:
        final = self.blobs.blob_path(sha256)
        os.fsync(self.file)
        make_directory(final.parent)
        try:
            os.link(self.path, final)
        except FileExistsError:
            self._check_present(final, sha256)
        sync_directory(final.parent)

    def _check_present(self, final: Path, sha256: str) -> None:
        """The same bytes were promoted before, by this upload or by another."""
        with final.open("rb") as present:
            if os.path.sameopenfile(present.fileno(), self.file):
                return
            if _digest(present.fileno())[0] != sha256:
                raise DamagedBlob(
                    f"The object {final} does not match its name: move it away, then send the file again."
                )
            os.fsync(present.fileno())


def make_directory(path: Path) -> None:
    """`path` with its parents, each made durable in the one above it."""
    if path.is_dir():
        return
    make_directory(path.parent)
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
    rest = memoryview(chunk)
    while rest:
        written = os.pwrite(file, rest, offset)
        rest, offset = rest[written:], offset + written
    return len(chunk)


def _digest(file: int) -> tuple[str, int]:
    sha256, size = hashlib.sha256(), 0
    while chunk := os.pread(file, CHUNK_SIZE, size):
        sha256.update(chunk)
        size += len(chunk)
    return sha256.hexdigest(), size


@contextmanager
def _translated() -> Iterator[None]:
    """What the disk complains about, in the API's words."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise StorageFull from error
        raise Unavailable("storage_unavailable", "The server's bundle storage cannot be used right now.") from error
