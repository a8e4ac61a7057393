"""Read the files of a directory that become a bundle, and compute their digests.

Only regular files are allowed. Symbolic links, sockets and other special files are refused, because devices could not
recreate them. Empty directories are left out. `.kernexignore` lists what to leave out, one shell pattern per line: a
pattern with a slash is matched against the full path, a pattern without one against each name in the path. A trailing
slash limits the pattern to directories.
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
from kernex_cli.manifest import EXECUTABLE_MODE, MAX_FILES, REGULAR_MODE
from kernex_cli.paths import check_path, check_together

IGNORE_FILE = ".kernexignore"
CHUNK_SIZE = 1024 * 1024


@dataclass(frozen=True)
class Source:
    """A file as it was when the command started. `path` is its path in the bundle, `size` its bytes."""

    path: str
    location: Path
    size: int
    mode: int
    identity: tuple[int, ...]

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """Open the file. Raises `FileChanged` if the file changed before or during the block."""
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
        """Yield the bytes of a range in chunks of at most 1 MiB. Raises `FileChanged`."""
        remaining = self.size - offset if length is None else length
        with self.open() as file:
            file.seek(offset)
            while remaining:
                chunk = file.read(min(CHUNK_SIZE, remaining))
                if not chunk:
                    raise FileChanged(self.path)
                remaining -= len(chunk)
                yield chunk

    def sha256(self, advance: Callable[[int], None]) -> str:
        """Return the file's digest, read with constant memory. `advance` is called with the size of each chunk."""
        digest = hashlib.sha256()
        for chunk in self.read():
            digest.update(chunk)
            advance(len(chunk))
        return digest.hexdigest()


def identity(status: os.stat_result) -> tuple[int, ...]:
    """Return attributes of which at least one changes when the file's content changes."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def walk(directory: Path, skip: frozenset[Path] = frozenset()) -> list[Source]:
    """Return the files under `directory`, sorted as in a manifest. Raises `LocalProblem` or `BadManifest`."""
    if not directory.is_dir():
        raise LocalProblem(f"{directory} is not a directory: give the directory that contains the bundle's files.")
    patterns = _read_patterns(directory / IGNORE_FILE)
    skip = skip | {directory / IGNORE_FILE}
    sources = sorted(_files_under(directory, "", patterns, skip), key=lambda source: source.path)
    if not sources:
        raise BadManifest("bad_files", f"{directory} contains no files for a bundle.")
    if len(sources) > MAX_FILES:
        raise BadManifest(
            "too_many_files",
            f"{directory} contains {len(sources)} files, but a bundle may have at most {MAX_FILES}: list some in "
            f"{IGNORE_FILE}, or pack them into one file.",
        )
    for source in sources:
        check_path(source.path)
    check_together([source.path for source in sources])
    return sources


def _files_under(directory: Path, prefix: str, patterns: list[str], skip: frozenset[Path]) -> Iterator[Source]:
    try:
        with os.scandir(directory) as iterator:
            entries = sorted(iterator, key=lambda entry: entry.name)
    except OSError as error:
        raise LocalProblem(f"{directory} cannot be read: {error.strerror}.") from None
    for entry in entries:
        location = Path(entry.path)
        # macOS stores names decomposed; a manifest requires Unicode normalization form C.
        path = prefix + unicodedata.normalize("NFC", entry.name)
        is_directory = entry.is_dir(follow_symlinks=False)
        if location in skip or _is_ignored(path, is_directory, patterns):
            continue
        if is_directory:
            yield from _files_under(location, path + "/", patterns, skip)
        else:
            yield _source(location, path)


def _source(location: Path, path: str) -> Source:
    status = location.lstat()
    if stat.S_ISLNK(status.st_mode):
        raise LocalProblem(
            f"{path!a} is a symbolic link, but a bundle contains only regular files: replace it with a copy, or "
            f"list it in {IGNORE_FILE}."
        )
    if not stat.S_ISREG(status.st_mode):
        raise LocalProblem(f"{path!a} is not a regular file: remove it, or list it in {IGNORE_FILE}.")
    mode = EXECUTABLE_MODE if status.st_mode & stat.S_IXUSR else REGULAR_MODE
    return Source(path, location, status.st_size, mode, identity(status))


def _read_patterns(file: Path) -> list[str]:
    try:
        lines = file.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise LocalProblem(f"{file} cannot be read: {error}.") from None
    patterns = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if negated := [pattern for pattern in patterns if pattern.startswith("!")]:
        raise LocalProblem(f"{file} has the line {negated[0]!a}, but `!` is not supported: list what to leave out.")
    return patterns


def _is_ignored(path: str, is_directory: bool, patterns: list[str]) -> bool:
    """Return True if a pattern matches `path`. Its parent directories were already checked."""
    for pattern in patterns:
        if pattern.endswith("/") and not is_directory:
            continue
        target = path if "/" in pattern.rstrip("/") else path.rpartition("/")[2]
        if fnmatchcase(target, pattern.strip("/")):
            return True
    return False
