"""Restoring a backup into an empty database, and being careful with the fleet afterwards."""

import hashlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from django.conf import settings
from django.core.management import call_command
from django.db import connection, transaction

from bundles.storage.interface import blobs
from deployments.holding import hold
from deployments.models import Hold
from foundation.events.models import record_event
from foundation.progress_bar import Track
from operations.backups import pg_dump
from operations.backups.create import CHUNK_SIZE, DESCRIPTION, PREFIX, blob_name, described
from operations.backups.destinations import Place
from operations.database.granting import address_of

ACTOR = "restore"
# Devices remember commands by their ids. Ids that were given out after the backup must not come again.
IDS_LEFT_OUT = 10_000_000
_SKIP_IDS = """
    SELECT setval(pg_get_serial_sequence('devices_command', 'id'), greatest(max(id), 1) + %s) FROM devices_command
"""

_LOOK = """
    SELECT (SELECT count(*) FROM pg_tables WHERE schemaname = 'public'),
        (SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid())
"""


class RestoreRefused(Exception):
    """Nothing was changed. The message says what to do."""


def restore(place: Place, name: str, *, programs: Path | None, track: Track) -> dict[str, Any]:
    """Restore a backup. Returns what backup.json says, and `missing`: blobs that storage does not hold.

    1. Look at everything first: the backup whole, the database empty, and nobody in it who would act on it at once.
    2. Load the dump in one transaction; migrate it to this code.
    3. Hold deployments: the database is older than the fleet.
    4. Bring back the blobs that storage lacks, and name those that nobody has.

    Raises `RestoreRefused`, `DumpFailed`, `PlaceFailed`.
    """
    with tempfile.TemporaryDirectory(prefix="kernex-restore-") as directory:
        work = Path(directory)
        about = fetch(place, name, work)
        refuse_unless_empty_and_alone()
        pg_dump.load(settings.DATABASES["default"], work / "database.dump", programs)
        call_command("migrate", verbosity=0, interactive=False)
        with transaction.atomic():
            be_careful(about)
        listed = [line.split() for line in (work / "blobs.txt").read_text().splitlines()]
        lacking = [sha256 for sha256, size in track(listed, "looking", len(listed)) if not has_blob(sha256, int(size))]
        missing = [
            sha256 for sha256 in track(lacking, "blobs", len(lacking)) if not copy_in(sha256, place, work / "blob")
        ]
    return {**about, "missing": missing}


def backups(place: Place) -> list[str]:
    """The names of the whole backups there, newest first. Raises `PlaceFailed`."""
    names = sorted((name for name in place.directories() if name.startswith(PREFIX)), reverse=True)
    return [name for name in names if place.has(f"{name}/{DESCRIPTION}")]


def fetch(place: Place, name: str, work: Path) -> dict[str, Any]:
    """Bring the backup's files here. Raises `RestoreRefused` if they are not what backup.json says."""
    if not place.has(f"{name}/{DESCRIPTION}"):
        raise RestoreRefused(
            f"{name} has no {DESCRIPTION}: it is no backup, or one that was cut off."
            " Leave the name out to see which are whole."
        )
    for file in (DESCRIPTION, "database.dump", "blobs.txt"):
        place.get(f"{name}/{file}", work / file)
    about = read_description(work / DESCRIPTION)
    for file, said in (("database.dump", about["dump"]), ("blobs.txt", about["blobs"])):
        if described(work / file)["sha256"] != said["sha256"]:
            raise RestoreRefused(f"{name}/{file} is damaged: its sha256 is not the one in backup.json.")
    return about


def read_description(path: Path) -> dict[str, Any]:
    """What backup.json says. Raises `RestoreRefused` if that is not what `make` writes."""
    try:
        about: dict[str, Any] = json.loads(path.read_bytes())
        _ = about["made_at"], about["dump"]["sha256"], about["blobs"]["sha256"]
    except (ValueError, KeyError, TypeError):
        raise RestoreRefused("The backup's backup.json is damaged: restore an older backup.") from None
    return about


def refuse_unless_empty_and_alone() -> None:
    """A scheduler or a web server at work would hand out old commands before they are held."""
    # A connection of its own: the pool has several, and they would be counted.
    with psycopg.connect(address_of(settings.DATABASES["default"])) as looking:
        tables, others = looking.execute(_LOOK).fetchone() or (0, 0)
    name = settings.DATABASES["default"]["NAME"]
    if tables:
        raise RestoreRefused(
            f"{name} has {tables} tables: restore into an empty database. Make one, run grant_perms for it, and set"
            " DATABASE_URL to it."
        )
    if others:
        raise RestoreRefused(f"{others} sessions use {name}: stop web servers and schedulers until it is restored.")


def be_careful(about: dict[str, Any]) -> Hold:
    """Hold deployments and skip command ids."""
    held = hold(f"restored from the backup of {about['made_at']}", actor=ACTOR)
    with connection.cursor() as cursor:
        cursor.execute(_SKIP_IDS, [IDS_LEFT_OUT])
    record_event("installation.restored", f"Restored from the backup of {about['made_at']}.", actor=ACTOR)
    return held


def has_blob(sha256: str, size: int) -> bool:
    return blobs().exists(sha256) and blobs().size(sha256) == size


def copy_in(sha256: str, place: Place, part: Path) -> bool:
    """Bring a blob back into storage, verified. False if the place does not hold it, or holds something else."""
    if not place.has(blob_name(sha256)):
        return False
    place.get(blob_name(sha256), part)
    with part.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            return False
    upload = uuid4()
    blobs().write(upload, 0, _chunks(part), lambda: True)
    with blobs().sealed(upload) as sealed:
        sealed.promote(sha256)
    blobs().discard(upload)
    return True


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_SIZE):
            yield chunk
