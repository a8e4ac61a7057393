"""Create a backup beside a running control plane."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
from django.conf import settings
from django.db import Error
from django.db.models import Max
from django.utils import timezone

from bundles.models import Blob
from bundles.storage.interface import blobs
from devices.models import Device
from foundation.errors import NotFound
from foundation.events.models import BACKUP_MADE, Event, record_event
from foundation.progress_bar import Track
from operations.backups import pg_dump
from operations.backups.description import FILE_NAME, BackupDescription, BlobListDescription, FileDescription
from operations.backups.destinations import Place
from operations.database.granting import dsn_of

logger = logging.getLogger(__name__)

PREFIX = "kernex-"
DUMP, BLOB_LIST = "database.dump", "blobs.txt"
CHUNK_SIZE = 1024 * 1024
# Held while a backup is made. Other programs in this database are unlikely to use these two numbers.
LOCK_KEY = (0x6B65726E, 4)


class BackupRunning(Exception):
    """Another process is making a backup of this database. Nothing was done."""


@contextmanager
def only_backup() -> Iterator[None]:
    """Hold this database's lock for backups, on a connection of its own. Raises `BackupRunning`."""
    dsn = dsn_of(settings.DATABASES["default"])
    with psycopg.connect(dsn, autocommit=True, connect_timeout=10) as session:
        row = session.execute("SELECT pg_try_advisory_lock(%s, %s)", LOCK_KEY).fetchone()
        if row != (True,):
            raise BackupRunning("Another backup of this database is running; nothing was done.")
        yield


def make(place: Place, *, with_blobs: bool, programs: Path | None, track: Track) -> tuple[str, BackupDescription]:
    """Make a backup. Return its name and its description.

    1. Dump the database: one consistent state.
    2. List the blobs after the dump, so that the list holds all that the dump names.
    3. With `with_blobs`, copy the blobs that the place does not hold yet.
    4. Write backup.json last: a backup that was interrupted has none.
    5. Record an event. If the database is read-only, the backup is kept without one.

    `track(things, title, count)` shows the progress. Raises `DumpFailed`, `PlaceFailed`, and `Unavailable` if
    storage cannot be used.
    """
    name = f"{PREFIX}{timezone.now():%Y%m%dT%H%M%SZ}"
    with tempfile.TemporaryDirectory(prefix="kernex-backup-") as directory:
        work = Path(directory)
        made_at = timezone.now().isoformat()
        pg_dump.dump(settings.DATABASES["default"], work / DUMP, programs)
        place.put(work / DUMP, f"{name}/{DUMP}")
        blob_list = copy_blobs(place, name, work, with_blobs=with_blobs, track=track)
        description = BackupDescription(
            kernex=settings.VERSION,
            made_at=made_at,
            devices=Device.objects.count(),
            dump=FileDescription.of(work / DUMP),
            blobs=blob_list,
        )
        description.write(work / FILE_NAME)
        place.put(work / FILE_NAME, f"{name}/{FILE_NAME}")
    try:
        record_event(BACKUP_MADE, f"The backup {name} was made.", actor="manage.py", name=name)
    except Error as error:
        logger.warning("the backup %s is complete, but could not be recorded as an event: %s", name, error)
    return name, description


def copy_blobs(place: Place, name: str, work: Path, *, with_blobs: bool, track: Track) -> BlobListDescription:
    """Write the list of blobs to the place, and the blobs themselves if wanted."""
    listed = list(Blob.objects.order_by("sha256").values_list("sha256", "size"))
    (work / BLOB_LIST).write_text("".join(f"{sha256} {size}\n" for sha256, size in listed))
    place.put(work / BLOB_LIST, f"{name}/{BLOB_LIST}")
    wanted = track(listed, "blobs", len(listed)) if with_blobs else []
    absent = [sha256 for sha256, _ in wanted if not copy_out(sha256, place, work / "blob")]
    # A blob without a row was collected since the list was made: nothing in the dump needs it.
    lost = sorted(Blob.objects.sizes(absent))
    file = FileDescription.of(work / BLOB_LIST)
    return BlobListDescription(file.sha256, file.size, count=len(listed), are_copied=with_blobs, lost=lost)


def age() -> timedelta | None:
    """Return how long ago the last backup was made; None if there is none."""
    made_at = Event.objects.filter(kind=BACKUP_MADE).aggregate(at=Max("at"))["at"]
    return None if made_at is None else timezone.now() - made_at


def copy_out(sha256: str, place: Place, part: Path) -> bool:
    """Copy one blob to the place, unless the place has it. Return False if storage has lost or damaged it."""
    name = blob_name(sha256)
    if place.has(name):
        return True
    try:
        with blobs().open(sha256) as source, part.open("wb") as target:
            while chunk := source.read(CHUNK_SIZE):
                target.write(chunk)
    except NotFound:
        return False
    if FileDescription.of(part).sha256 != sha256:
        return False
    place.put(part, name)
    return True


def blob_name(sha256: str) -> str:
    """Return the name of a blob in a place."""
    return f"blobs/{sha256[:2]}/{sha256}"
