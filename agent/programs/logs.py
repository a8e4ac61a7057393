"""The logs of programs: files of limited size for each release. The logs of failed releases are kept for a week.

logs/<product>/<version>@<sha256>.log          the latest output of the release's program
logs/<product>/<version>@<sha256>.log.1        the output before that
logs/<product>/failed/<version>@<sha256>.log   the latest output of a release that failed; also with .1
"""

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.atomic_files import create_directory, open_regular, remove
from agent.jobs.reports import MESSAGE_SIZE
from agent.jobs.state import Product, Release

DIRECTORY = "logs"
FAILED = "failed"
# The limit of each of the two files, so that a release's log takes at most 1 MiB.
MAX_FILE_SIZE = 512 * 1024
FAILED_KEPT_SECONDS = 7 * 86_400.0
EXPIRE_INTERVAL_SECONDS = 3600.0
# Smaller than the message of a report, so that a sentence can be added.
MAX_MESSAGE_SIZE = MESSAGE_SIZE - 256
_SUFFIXES = ("", ".1")


@dataclass(frozen=True, slots=True)
class ProgramLog:
    """The log of one release. `path` is the file with the latest output. The older file has the suffix `.1`."""

    path: Path

    @property
    def older(self) -> Path:
        return self.path.with_name(f"{self.path.name}.1")

    def begin(self) -> None:
        """Start a new file, so that `path` contains only later output. Raises `OSError`."""
        create_directory(self.path.parent)
        if self.path.is_symlink() or not self.path.is_file():
            remove(self.path)
        elif self.path.stat().st_size:
            remove(self.older)
            self.path.replace(self.older)

    def tail(self, size: int) -> bytes:
        """Return the newest bytes of both files, at most `size`."""
        newest = _tail(self.path, size)
        return _tail(self.older, size - len(newest)) + newest

    def last_output(self, size: int) -> str:
        """Return the end of the output since `begin`, at most `size` bytes."""
        return _tail(self.path, size).decode("utf-8", "replace").strip()


@dataclass(frozen=True, slots=True)
class ProgramLogSource:
    """A log that can be collected. `name` is `program:PRODUCT` or `failed:PRODUCT@VERSION`."""

    name: str
    log: ProgramLog

    def tail(self, size: int) -> bytes:
        """Return the newest bytes, at most `size`. They may begin in the middle of a line or character."""
        return self.log.tail(size)


class ProgramLogs:
    """The logs of all programs in one state directory."""

    def __init__(self, state_dir: Path) -> None:
        self.directory = state_dir / DIRECTORY
        self._expire_at = 0.0

    def of(self, product: str, release: Release) -> ProgramLog:
        """Return the log of a release, which need not exist yet."""
        return ProgramLog(self.directory / product / f"{release.version}@{release.manifest_sha256}.log")

    def sources(self, products: Mapping[str, Product]) -> list[ProgramLogSource]:
        """Return the log of each installed program, then those of the releases that failed."""
        sources = [
            ProgramLogSource(f"program:{name}", self.of(name, installed.current))
            for name, installed in sorted(products.items())
            if installed.current is not None and installed.current.has_program
        ]
        for path in sorted(self.directory.glob(f"*/{FAILED}/*.log")):
            version = path.name.partition("@")[0]
            sources.append(ProgramLogSource(f"failed:{path.parent.parent.name}@{version}", ProgramLog(path)))
        return sources

    def keep_failed(self, product: str, release: Release) -> None:
        """Move the log of a release that failed to `failed/`. Idempotent. Disk errors are ignored."""
        log = self.of(product, release)
        directory = log.path.parent / FAILED
        with suppress(OSError):
            if any(path.exists() for path in (log.path, log.older)):
                create_directory(directory)
            for suffix in _SUFFIXES:
                path = log.path.with_name(log.path.name + suffix)
                if path.is_file() and not path.is_symlink():
                    path.replace(directory / path.name)
                    os.utime(directory / path.name)

    def discard_failed(self, product: str) -> None:
        """Delete the logs of a product's failed releases. Called when its next installation begins."""
        with suppress(OSError):
            remove(self.directory / product / FAILED)

    def collect(self, wanted: Mapping[str, set[str]]) -> None:
        """Delete the logs of releases that are not in `wanted` (sha256s by product), and expired logs."""
        if not self.directory.is_dir():
            return
        for directory in list(self.directory.iterdir()):
            with suppress(OSError):
                for path in list(directory.iterdir()):
                    sha256 = path.name.partition("@")[2].partition(".")[0]
                    if path.name != FAILED and sha256 not in wanted.get(directory.name, set()):
                        remove(path)
        self.expire()

    def expire_hourly(self) -> None:
        """Call `expire` at most once an hour. This method is cheap enough to be called often."""
        if time.monotonic() >= self._expire_at:
            self._expire_at = time.monotonic() + EXPIRE_INTERVAL_SECONDS
            self.expire()

    def expire(self) -> None:
        """Delete the logs of releases that failed more than a week ago, and empty directories."""
        for path in list(self.directory.glob(f"*/{FAILED}/*")):
            with suppress(OSError):
                if time.time() - path.lstat().st_mtime > FAILED_KEPT_SECONDS:
                    remove(path)
        for directory in [*self.directory.glob(f"*/{FAILED}"), *self.directory.glob("*")]:
            with suppress(OSError):
                if not any(directory.iterdir()):
                    directory.rmdir()


def failure_message(reason: str, output: str, max_size: int = MAX_MESSAGE_SIZE) -> str:
    """Join the reason of a failure and the last complete lines of the output, in at most `max_size` bytes.

    The last line of the output is the most important one, so lines are left out from the beginning. If the last line
    alone is too long, its end is kept.
    """
    lines = output.strip().splitlines()
    if not lines:
        return reason
    free = max(1, max_size - _size(reason) - 1)
    kept_lines = [_end(lines.pop(), free)]
    free -= _size(kept_lines[0])
    while lines and _size(lines[-1]) < free:
        free -= _size(lines[-1]) + 1
        kept_lines.append(lines.pop())
    return "\n".join([reason, *reversed(kept_lines)])


def _size(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def _end(text: str, size: int) -> str:
    return text.encode("utf-8", "replace")[-size:].decode("utf-8", "ignore")


def _tail(path: Path, size: int) -> bytes:
    """Return the last bytes of a file. A program may have replaced it with something else."""
    if size <= 0:
        return b""
    with suppress(OSError), open_regular(path) as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - size))
        return file.read(size)
    return b""
