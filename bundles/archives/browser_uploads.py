"""Archives from a browser, where bundles are kept in a bucket: no byte of them passes a web worker.

The browser puts the archive into the bucket, the scheduler reads it there. Reading a large one takes minutes: a thread
does it beside the scheduler's other steps, one archive at a time. Whatever ends that thread, the archive is read anew.
"""

import threading
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db import close_old_connections, connection
from django.utils import timezone

from bundles.archives.drafting import draft_from_archive
from bundles.errors import StorageFull
from bundles.models import Bundle
from bundles.sent_archives import UNFINISHED, ArchiveState, SentArchive
from bundles.storage.interface import blobs
from bundles.storage.presigned_uploads import MAX_WHOLE_SIZE, DirectUploads
from foundation.errors import ApiError, BadRequest, Conflict, Unavailable

# The scheduler waits so long for an archive to be read before it goes on with its other steps.
WAIT_SECONDS = 5.0


def sends_directly() -> bool:
    """Whether browsers put archives into storage themselves."""
    return blobs().direct is not None


def start(name: str, version: str, size: int, *, actor: str, user: User) -> tuple[SentArchive, str]:
    """An archive that may now be PUT to the address, by whoever knows it, within 15 minutes.

    Raises: `BadRequest` (`bad_size`), `Conflict` (`version_exists`, `not_direct`), `Unavailable`.
    """
    if not 0 < size <= MAX_WHOLE_SIZE:
        raise BadRequest("bad_size", f"An archive has 1 to {MAX_WHOLE_SIZE} bytes: for more use kernex push.")
    if Bundle.objects.filter(name=name, version=version).exists():
        raise Conflict(
            "version_exists", f"{name}@{version} exists, and a bundle never changes: choose another version."
        )
    direct = _direct()
    archive = SentArchive.objects.create(name=name, version=version, size=size, actor=actor, created_by=user)
    return archive, direct.whole_address(archive.pk, size)


def hand_over(archive: SentArchive) -> SentArchive:
    """It has arrived: have it read. Harmless when repeated.

    Raises: `Conflict` (`not_arrived`, `archive_closed`), `Unavailable`.
    """
    if archive.state == ArchiveState.OPEN:
        size = _direct().whole_size(archive.pk)
        if size != archive.size:
            raise Conflict("not_arrived", f"{archive.size} bytes were announced, {size} have arrived.")
        if archive.move_to(ArchiveState.READING, only_from=ArchiveState.OPEN):
            return archive
        archive.refresh_from_db()
    if archive.state not in {ArchiveState.READING, ArchiveState.DRAFTED}:
        raise Conflict("archive_closed", f"This archive is {archive.state}.")
    return archive


def _direct() -> DirectUploads:
    direct = blobs().direct
    if direct is None:
        raise Conflict("not_direct", "Bundles are kept on a local disk here: archives are sent with the form.")
    return direct


class Reader:
    """The thread that reads; there is one in a process."""

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None
        self.has_moved = False

    def step(self) -> int:
        """Begin with the next archive, unless one is being read. Returns how many were begun, and did not fail soon."""
        if self.thread is not None and self.thread.is_alive():
            return 0
        waiting = SentArchive.objects.filter(state=ArchiveState.READING).order_by("created_at")
        pk = waiting.values_list("pk", flat=True).first()
        if pk is None:
            return 0
        self.thread = threading.Thread(target=self._run, args=[pk])
        self.thread.start()
        self.thread.join(WAIT_SECONDS)
        return int(self.thread.is_alive() or self.has_moved)

    def _run(self, pk: UUID) -> None:
        close_old_connections()
        try:
            self.has_moved = read(pk)
        finally:
            connection.close()


read_archives = Reader().step


def read(pk: UUID) -> bool:
    """Make the draft of one archive, or say why not. False if that is done already, or has to wait for storage."""
    archive = SentArchive.objects.filter(pk=pk, state=ArchiveState.READING).select_related("created_by").first()
    if archive is None:
        return False
    try:
        with _direct().open_whole(pk) as file:
            bundle = draft_from_archive(
                file, archive.name, archive.version, actor=archive.actor, user=archive.created_by
            )
    except (Unavailable, StorageFull):
        return False
    except ApiError as error:
        moved = archive.move_to(ArchiveState.REFUSED, only_from=ArchiveState.READING, reason=error.message)
    else:
        moved = archive.move_to(ArchiveState.DRAFTED, only_from=ArchiveState.READING, bundle=bundle)
    blobs().discard(pk)
    return moved


def expire_archives() -> int:
    """End archives that did not arrive or could not be read; `sweep` deletes their bytes. Returns how many."""
    since = timezone.now() - timedelta(seconds=settings.UPLOAD_EXPIRY_SECONDS)
    late = SentArchive.objects.filter(state__in=UNFINISHED, created_at__lt=since)
    return late.update(state=ArchiveState.EXPIRED, state_reason="it did not arrive, or could not be read, in time")
