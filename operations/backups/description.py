"""backup.json: the description of a backup."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

FILE_NAME = "backup.json"


class DamagedDescription(Exception):
    """backup.json cannot be parsed."""


@dataclass(frozen=True, slots=True)
class FileDescription:
    """One file of a backup: its digest, and its size in bytes."""

    sha256: str
    size: int

    @classmethod
    def of(cls, path: Path) -> "FileDescription":
        with path.open("rb") as file:
            return cls(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


@dataclass(frozen=True, slots=True)
class BlobListDescription:
    """The list of blobs (blobs.txt), and whether the blobs were copied.

    `are_copied`: the destination has the blobs' bytes. `lost`: the digests of blobs that storage has lost or damaged.
    """

    sha256: str
    size: int
    count: int
    are_copied: bool
    lost: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class BackupDescription:
    """`kernex` is the release that created the backup, `made_at` is in ISO 8601, `devices` is the number of devices."""

    kernex: str
    made_at: str
    devices: int
    dump: FileDescription
    blobs: BlobListDescription

    def as_dict(self) -> dict[str, object]:
        return asdict(self)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(self.as_dict(), indent=2))

    @classmethod
    def read(cls, path: Path) -> "BackupDescription":
        """Read what `write` wrote. Raises `DamagedDescription`."""
        try:
            content = json.loads(path.read_bytes())
            return cls(
                kernex=str(content["kernex"]),
                made_at=str(content["made_at"]),
                devices=int(content["devices"]),
                dump=FileDescription(**content["dump"]),
                blobs=BlobListDescription(**content["blobs"]),
            )
        except (ValueError, KeyError, TypeError):
            raise DamagedDescription from None
