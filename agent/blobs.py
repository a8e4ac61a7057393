"""The device's store of blobs: complete and verified under their sha256, or unfinished under `.part`."""

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from agent import files
from agent.errors import DeploymentFailed
from agent.manifest import File
from agent.transport import Server

READ_SIZE = 1024 * 1024
WRONG_BYTES_LIMIT = 3


def digest(path: Path) -> str:
    """The sha256 of a file, read in pieces."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(READ_SIZE):
            found.update(chunk)
    return found.hexdigest()


class Blobs:
    """The directory of blobs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, sha256: str) -> Path:
        return self.directory / sha256

    def missing(self, wanted: list[File]) -> list[File]:
        """One file for each digest that is not here yet."""
        by_digest = {file.sha256: file for file in wanted}
        return [file for sha256, file in sorted(by_digest.items()) if not self.path(sha256).exists()]

    def partial_size(self, sha256: str) -> int:
        """How many bytes of an unfinished blob are here."""
        part = self._part(sha256)
        return part.stat().st_size if part.exists() else 0

    def fetch(self, server: Server, file: File, on_bytes: Callable[[int], None]) -> None:
        """Fetch one blob, going on where an earlier try ended; it is complete and verified when this returns.

        `on_bytes` is told the size of each piece and may raise to stop. Raises `DeploymentFailed` (`bad_blob`) when the
        server keeps sending other bytes than were announced, and whatever `server` and `on_bytes` raise; what arrived
        before is kept for the next try.
        """
        for _ in range(WRONG_BYTES_LIMIT):
            if self._fetch_once(server, file, on_bytes):
                return
        raise DeploymentFailed("bad_blob", f"{file.path}: the server sends other bytes than the manifest announces.")

    def _fetch_once(self, server: Server, file: File, on_bytes: Callable[[int], None]) -> bool:
        part = self._part(file.sha256)
        hashed = hashlib.sha256()
        size = self._rehash(part, hashed, file.size)
        if size < file.size:
            with files.synced_for_append(part) as target:
                for chunk in self._arriving(server, file, size):
                    target.write(chunk)
                    hashed.update(chunk)
                    size += len(chunk)
                    on_bytes(len(chunk))
        elif not part.exists():
            part.touch()
        if size != file.size or hashed.hexdigest() != file.sha256:
            if size >= file.size:
                files.remove(part)
            return False
        with part.open("rb") as handle:
            os.fsync(handle.fileno())
        part.replace(self.path(file.sha256))
        files.sync_directory(self.directory)
        return True

    def _arriving(self, server: Server, file: File, offset: int) -> Iterator[bytes]:
        """What the server sends, cut at one byte more than was announced: enough to see that it is wrong."""
        rest = file.size - offset
        for chunk in server.download(f"/api/v1/blobs/{file.sha256}", offset):
            if len(chunk) > rest:
                yield chunk[: rest + 1]
                return
            rest -= len(chunk)
            yield chunk

    def _rehash(self, part: Path, hashed: "hashlib._Hash", most: int) -> int:
        """Hash what an earlier try left; a leftover that is too long is thrown away."""
        if not part.exists():
            return 0
        if part.stat().st_size > most:
            files.remove(part)
            return 0
        with part.open("rb") as file:
            while chunk := file.read(READ_SIZE):
                hashed.update(chunk)
        return part.stat().st_size

    def _part(self, sha256: str) -> Path:
        return self.directory / f"{sha256}.part"

    def clear(self) -> None:
        """Delete everything: releases hold copies of their own, and no deployment is under way."""
        for path in self.directory.iterdir():
            path.unlink()
        files.sync_directory(self.directory)
