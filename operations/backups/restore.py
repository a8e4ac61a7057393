"""Restore a backup into an empty database. Deployments are held until an operator has checked the result."""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psycopg
from django.conf import settings
from django.core.management import call_command
from django.db import connection, transaction

from bundles.garbage_collection import digests_in_use
from bundles.models import Blob
from bundles.storage.interface import blobs
from deployments.models import Hold
from foundation.events.models import record_event
from foundation.progress_bar import Track
from operations.backups import pg_dump
from operations.backups.create import BLOB_LIST, CHUNK_SIZE, DUMP, blob_name
from operations.backups.description import FILE_NAME, BackupDescription, DamagedDescription, FileDescription
from operations.backups.destinations import Destination
from operations.database.granting import dsn_of
from operations.database.runtime_role import REVOKE_EVENT_DELETION

ACTOR = "restore"
# Devices remember commands by id, so ids that were assigned after the backup must not be assigned again.
SKIPPED_IDS = 10_000_000
_SKIP_IDS = """
    SELECT setval(pg_get_serial_sequence('devices_command', 'id'), greatest(max(id), 1) + %s) FROM devices_command
"""

_TABLES_AND_SESSIONS = """
    SELECT (SELECT count(*) FROM pg_tables WHERE schemaname = 'public'),
        (SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid())
"""


class RestoreRefused(Exception):
    """Nothing was changed. The message says what to do."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored. `missing` are the digests of blobs that neither storage nor the backup holds."""

    description: BackupDescription
    missing: list[str]


def restore(destination: Destination, name: str, *, programs: Path | None, track: Track) -> Restored:
    """Restore a backup into the empty database of the settings.

    1. Check everything first: the backup is complete, the database is empty, and no session uses it.
    2. Load the dump in one transaction; migrate it to this release.
    3. Revoke what PostgreSQL grants to everyone by default: a dump holds no privileges.
    4. Hold deployments: the database is older than the fleet.
    5. Copy the blobs that storage lacks, and list those that are nowhere.

    Raises `RestoreRefused`, `DumpFailed`, `DestinationFailed`.
    """
    with tempfile.TemporaryDirectory(prefix="kernex-restore-") as directory:
        work = Path(directory)
        description = fetch(destination, name, work)
        refuse_unless_empty_and_alone()
        pg_dump.load(settings.DATABASES["default"], work / DUMP, programs)
        call_command("migrate", verbosity=0, interactive=False)
        with transaction.atomic():
            revoke_event_deletion()
            hold_deployments(description)
        listed = [line.split() for line in (work / BLOB_LIST).read_text().splitlines()]
        absent = [sha256 for sha256, size in track(listed, "checking", len(listed)) if not has_blob(sha256, int(size))]
        missing = [
            sha256 for sha256 in track(absent, "blobs", len(absent)) if not copy_in(sha256, destination, work / "blob")
        ]
    # Without their rows, an upload of the same bytes brings them back. Nothing needs those that are not in use.
    Blob.objects.filter(sha256__in=missing).delete()
    return Restored(description, sorted(digests_in_use(missing)))


def fetch(destination: Destination, name: str, work: Path) -> BackupDescription:
    """Copy the backup's files to `work`. Raises `RestoreRefused` if they do not match backup.json."""
    if not destination.has(f"{name}/{FILE_NAME}"):
        raise RestoreRefused(
            f"{name} has no {FILE_NAME}: it is not a backup, or it was interrupted."
            " Leave the name out to list the complete ones."
        )
    for file in (FILE_NAME, DUMP, BLOB_LIST):
        destination.get(f"{name}/{file}", work / file)
    try:
        description = BackupDescription.read(work / FILE_NAME)
    except DamagedDescription:
        raise RestoreRefused("The backup's backup.json is damaged: restore an older backup.") from None
    for file, expected in ((DUMP, description.dump.sha256), (BLOB_LIST, description.blobs.sha256)):
        if FileDescription.of(work / file).sha256 != expected:
            raise RestoreRefused(f"{name}/{file} is damaged: its sha256 is not the one in backup.json.")
    return description


def refuse_unless_empty_and_alone() -> None:
    """Raise `RestoreRefused` unless the database has no tables and no other sessions.

    A scheduler or a web server would deliver old commands before deployments are held.
    """
    # A separate connection: the pool opens several, which would be counted as other sessions.
    with psycopg.connect(dsn_of(settings.DATABASES["default"])) as session:
        tables, others = session.execute(_TABLES_AND_SESSIONS).fetchone() or (0, 0)
    name = settings.DATABASES["default"]["NAME"]
    if tables:
        raise RestoreRefused(
            f"{name} has {tables} tables: restore into an empty database. Create one, run grant_perms for it, and set"
            " DATABASE_URL to it."
        )
    if others:
        raise RestoreRefused(f"{others} sessions use {name}: stop web servers and schedulers until it is restored.")


def revoke_event_deletion() -> None:
    """Revoke EXECUTE on `delete_old_events` from PUBLIC again. The dump was loaded without privileges."""
    with connection.cursor() as cursor:
        cursor.execute(REVOKE_EVENT_DELETION)


def hold_deployments(description: BackupDescription) -> Hold:
    """Hold deployments, skip command ids, and record the restore."""
    hold = Hold.begin(f"restored from the backup of {description.made_at}", actor=ACTOR)
    with connection.cursor() as cursor:
        cursor.execute(_SKIP_IDS, [SKIPPED_IDS])
    record_event("installation.restored", f"Restored from the backup of {description.made_at}.", actor=ACTOR)
    return hold


def has_blob(sha256: str, size: int) -> bool:
    return blobs().exists(sha256) and blobs().size(sha256) == size


def copy_in(sha256: str, destination: Destination, part: Path) -> bool:
    """Copy a blob into storage, verified. Return False if the backup lacks it or holds other content under its name."""
    if not destination.has(blob_name(sha256)):
        return False
    destination.get(blob_name(sha256), part)
    if FileDescription.of(part).sha256 != sha256:
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
