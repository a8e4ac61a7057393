"""The files of a directory that become a bundle, and their digests.

Only plain files are taken. Symbolic links, sockets and the like are refused, because a device could not have them;
empty directories leave no trace. `.kernexignore` names what to leave out, one shell pattern a line: a pattern with a
slash is matched against the whole path, one without against every name on the way; a trailing slash means directories
only.
"""

import hashlib
import os
import stat
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO

from kernex_cli.errors import BadManifest, FileChanged, LocalProblem
from kernex_cli.manifest import EXECUTABLE, MAX_FILES, PLAIN
from kernex_cli.paths import check_path, check_together

IGNORE_FILE = ".kernexignore"
CHUNK_SIZE = 1024 * 1024


@dataclass(frozen=True)
class Source:
    """One file as it was when the command began. `path` is its name in the bundle."""

    path: str
    location: Path
    size: int
    mode: int
    identity: tuple[int, ...]

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The file's bytes. Raises `FileChanged` if it is no longer the same, before or after the block."""
        try:
            descriptor = os.open(self.location, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            raise FileChanged(self.path) from None
        except OSError as error:
            raise LocalProblem(f"{self.location} cannot be read: {error.strerror}.") from None
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            self._check(file)
            yield file
            self._check(file)

    def _check(self, file: BinaryIO) -> None:
        if identity(os.fstat(file.fileno())) != self.identity:
            raise FileChanged(self.path)

    def read(self, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """The bytes of a range in chunks of at most 1 MiB. Raises `FileChanged`."""
        left = self.size - offset if length is None else length
        with self.open() as file:
            file.seek(offset)
            while left:
                chunk = file.read(min(CHUNK_SIZE, left))
                if not chunk:
                    raise FileChanged(self.path)
                left -= len(chunk)
                yield chunk

    def sha256(self, advance: Callable[[int], None], offset: int = 0, length: int | None = None) -> "hashlib._Hash":
        """The digest of a range, read with constant memory; `advance` is told the bytes done."""
        digest = hashlib.sha256()
        for chunk in self.read(offset, length):
            digest.update(chunk)
            advance(len(chunk))
        return digest


def identity(status: os.stat_result) -> tuple[int, ...]:
    """What changes when a file's content does."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def walk(directory: Path, skip: frozenset[Path] = frozenset()) -> list[Source]:
    """The files below `directory`, sorted as a manifest wants them. Raises `LocalProblem` or `BadManifest`."""
    if not directory.is_dir():
        raise LocalProblem(f"{directory} is no directory: give the directory that holds the bundle's files.")
    patterns = _patterns(directory / IGNORE_FILE)
    skip = skip | {directory / IGNORE_FILE}
    sources = sorted(_below(directory, "", patterns, skip), key=lambda source: source.path)
    if not sources:
        raise BadManifest("bad_files", f"{directory} holds no file that could be pushed.")
    if len(sources) > MAX_FILES:
        raise BadManifest(
            "too_many_files",
            f"{directory} holds {len(sources)} files; a bundle takes {MAX_FILES}: leave some out with {IGNORE_FILE}, "
            "or pack them into one file.",
        )
    for source in sources:
        check_path(source.path)
    check_together([source.path for source in sources])
    return sources


def _below(directory: Path, prefix: str, patterns: list[str], skip: frozenset[Path]) -> Iterator[Source]:
    try:
        with os.scandir(directory) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise LocalProblem(f"{directory} cannot be read: {error.strerror}.") from None
    for entry in entries:
        location = Path(entry.path)
        # macOS stores names decomposed; a manifest names them in normal form C.
        path = prefix + unicodedata.normalize("NFC", entry.name)
        is_directory = entry.is_dir(follow_symlinks=False)
        if location in skip or _is_ignored(path, is_directory, patterns):
            continue
        if is_directory:
            yield from _below(location, path + "/", patterns, skip)
        else:
            yield _source(location, path)


def _source(location: Path, path: str) -> Source:
    status = location.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise LocalProblem(
            f"{path!a} is a symbolic link, and a bundle holds plain files only: put a copy in its place, or name it in "
            f"{IGNORE_FILE}."
        )
    if not stat.S_ISREG(status.st_mode):
        raise LocalProblem(f"{path!a} is no plain file: remove it, or name it in {IGNORE_FILE}.")
    mode = EXECUTABLE if status.st_mode & stat.S_IXUSR else PLAIN
    return Source(path, location, status.st_size, mode, identity(status))


def _patterns(file: Path) -> list[str]:
    try:
        lines = file.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise LocalProblem(f"{file} cannot be read: {error}.") from None
    patterns = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if negated := [pattern for pattern in patterns if pattern.startswith("!")]:
        raise LocalProblem(f"{file} has the line {negated[0]!a}: `!` is not known here, name only what to leave out.")
    return patterns


def _is_ignored(path: str, is_directory: bool, patterns: list[str]) -> bool:
    """Whether a pattern fits `path`; its directories were already asked on the way down."""
    for pattern in patterns:
        if pattern.endswith("/") and not is_directory:
            continue
        bare = pattern.strip("/")
        target = path if "/" in pattern.rstrip("/") else path.rpartition("/")[2]
        if fnmatchcase(target, bare):
            return True
    return False
