"""The members of an archive, read one after the other. Nothing is ever unpacked into a directory.

Only regular files are accepted: their path, their bytes and whether they are executable. Everything else in an archive
(links, devices, owners, times, sparse files, encryption) is refused or ignored. Limits apply to the bytes that are
actually unpacked, not to what the archive declares.
"""

import gzip
import io
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, BinaryIO

from bundles.errors import BadBundle
from bundles.manifest import EXECUTABLE_MODE, MAX_FILES, REGULAR_MODE
from bundles.paths import check_path

MAX_UNPACKED_SIZE = 16 * 1024**3
# The maximum number of unpacked bytes per packed byte, once RATIO_FREE_SIZE is exceeded. Weights and code stay far
# below it.
MAX_RATIO = 200
RATIO_FREE_SIZE = 64 * 1024**2
# No single read returns this much: only tables of the archive format are read in one piece, never members.
MAX_PIECE_SIZE = 16 * 1024**2
# Directories and other entries count too: each costs time.
MAX_ENTRIES = 2 * MAX_FILES
READ_SIZE = 1024 * 1024
TAR_BLOCK_SIZE = 512

BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, struct.error),
    # What else these modules raise for damaged or hostile input; RuntimeError includes RecursionError.
    *(EOFError, ValueError, OverflowError, RuntimeError, OSError),
)


@dataclass(frozen=True, slots=True)
class Member:
    """One regular file of an archive. Read `content`, at most `size` bytes, before requesting the next member."""

    path: str
    size: int
    mode: int
    content: "IO[bytes] | _Counted"

    def chunks(self) -> Iterator[bytes]:
        """Yield the member's bytes in pieces. Raises `BadBundle` (`broken_archive`, `archive_too_large`)."""
        with _reading():
            while chunk := self.content.read(READ_SIZE):
                yield chunk


def members(file: BinaryIO) -> Iterator[Member]:
    """Yield the regular files in a seekable tar, tar.gz or zip. The first bytes decide which it is.

    Raises `BadBundle`: `unknown_archive`, `broken_archive`, `archive_too_large`, `too_many_files`, `bad_member_type`,
    and what `check_path` raises.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    start = file.read(TAR_BLOCK_SIZE)
    file.seek(0)
    with _reading():
        if start.startswith(b"PK\x03\x04"):
            yield from _zip_members(file, _Budget(size))
        elif start.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=file, mode="rb") as unpacked:
                yield from _tar_members(unpacked, _Budget(size))
        elif start[257:262] == b"ustar":
            yield from _tar_members(file, _Budget(size))
        else:
            raise BadBundle("unknown_archive", "This file is not a tar, tar.gz or zip with at least one file in it.")


class _Budget:
    """How many bytes and entries may still come out of an archive of `packed_size` bytes."""

    def __init__(self, packed_size: int) -> None:
        self.remaining = min(MAX_UNPACKED_SIZE, max(RATIO_FREE_SIZE, packed_size * MAX_RATIO))
        self.entries = 0

    def spend(self, size: int) -> None:
        self.remaining -= size
        if self.remaining < 0:
            raise BadBundle(
                "archive_too_large",
                f"The archive unpacks to more than {MAX_UNPACKED_SIZE} bytes, or {MAX_RATIO} times its size.",
            )

    def count_entry(self) -> None:
        self.entries += 1
        if self.entries > MAX_ENTRIES:
            raise BadBundle("too_many_files", f"The archive has more than {MAX_ENTRIES} entries.")


class _Counted(io.RawIOBase):
    """A file that counts what is read from it and refuses to return much at once.

    Without it, `tarfile` would read a header of many gigabytes into memory if the archive announces one.
    """

    def __init__(self, file: IO[bytes] | gzip.GzipFile, budget: _Budget, *, seeking_costs: bool = True) -> None:
        self.file = file
        self.budget = budget
        self.seeking_costs = seeking_costs
        self.last = b""

    def read(self, size: int = -1, /) -> bytes:
        if size < -1:
            raise BadBundle("broken_archive", "The archive has a header of negative size.")
        self.last = self.file.read(size) if 0 <= size <= MAX_PIECE_SIZE else self.file.read(MAX_PIECE_SIZE)
        if len(self.last) == MAX_PIECE_SIZE:
            raise BadBundle("broken_archive", "The archive has a header of unreasonable size.")
        self.budget.spend(len(self.last))
        return self.last

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if whence == io.SEEK_SET and self.seeking_costs:
            self.budget.spend(max(0, offset - self.file.tell()))
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


def _tar_members(file: IO[bytes] | gzip.GzipFile, budget: _Budget) -> Iterator[Member]:
    counted = _Counted(file, budget)
    with tarfile.open(fileobj=counted, mode="r:", errors="surrogateescape") as tar:
        for entry in tar:
            budget.count_entry()
            if entry.size < 0:
                raise BadBundle("broken_archive", "The archive has a member of negative size.")
            if entry.isdir():
                continue
            if entry.type not in {tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE} or entry.issparse():
                raise _bad_type(entry.name)
            content = tar.extractfile(entry)
            if content is None:
                raise _bad_type(entry.name)
            yield Member(_plain_path(entry.name), entry.size, _mode(entry.mode), content)
    # A tar ends with a block of zeros. Without one, it was cut off between two members.
    if counted.last != bytes(TAR_BLOCK_SIZE):
        raise BadBundle("broken_archive", "The archive is cut off.")
    # Read to the end, where gzip has the checksum of the whole.
    while counted.read(READ_SIZE):
        pass


def _zip_members(file: BinaryIO, budget: _Budget) -> Iterator[Member]:
    with zipfile.ZipFile(_Counted(file, _Budget(MAX_UNPACKED_SIZE), seeking_costs=False)) as archive:
        for entry in archive.infolist():
            budget.count_entry()
            if entry.is_dir():
                continue
            unix_mode = entry.external_attr >> 16
            if stat.S_IFMT(unix_mode) not in {0, stat.S_IFREG} or entry.flag_bits & 0x1:
                raise _bad_type(entry.filename)
            if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise BadBundle("bad_member_type", f"{entry.filename!a} is compressed by another method than deflate.")
            if not entry.orig_filename.isascii() and not entry.flag_bits & 0x800:
                raise BadBundle("bad_path", f"The path {entry.orig_filename!a} is not marked as UTF-8.")
            with archive.open(entry) as content:
                path, size = _plain_path(entry.orig_filename), entry.file_size
                yield Member(path, size, _mode(unix_mode), _Counted(content, budget))


def _bad_type(name: str) -> BadBundle:
    return BadBundle(
        "bad_member_type", f"{name[:200]!a} is a link, a device, encrypted or sparse: only regular files are accepted."
    )


def _plain_path(name: str) -> str:
    """Return the member's path without the `./` that `tar -C DIR .` puts before each."""
    return check_path(name.removeprefix("./"))


def _mode(mode: int) -> int:
    return EXECUTABLE_MODE if mode & stat.S_IXUSR else REGULAR_MODE


@contextmanager
def _reading() -> Iterator[None]:
    """Raise the errors of Python's archive modules as `BadBundle`."""
    try:
        yield
    except BROKEN as error:
        raise BadBundle("broken_archive", f"The archive cannot be read: {str(error)[:200]}.") from error
