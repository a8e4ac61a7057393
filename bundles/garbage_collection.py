"""Deletes blobs that nothing refers to, and old rows of uploads and archives.

A blob is in use while a file of any bundle (even a draft or a withdrawn one) or an unfinished upload has its
sha256. The collector must never lose such a blob, even if the reference appears while it runs:

1. Mark: a blob without a reference gets `unreferenced_at`; a blob with one loses it. A new draft removes the mark.
2. After BLOB_KEEP_DAYS, lock the marked row, look for references once more, and replace the `Blob` row by a
   `BlobDeletion` row. A draft that needs the blob waits for the lock (`BlobQuerySet.claim`) and then finds it missing,
   so its publisher sends the bytes again.
3. Delete the object. An upload of the same bytes is not verified while there is a `BlobDeletion` row, so the object
   that is deleted here is never a new one.
4. Delete the `BlobDeletion` row a while later: another scheduler may have read it before and be about to delete the
   object a second time.

A process that is killed between two steps leaves rows from which the next run continues.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone

from bundles.models import Blob, BlobDeletion, BundleFile, SentArchive, Upload
from bundles.storage.interface import blobs
from foundation.batches import run_in_batches, time_boxed
from foundation.events.models import record_event
from foundation.formatting import size
from foundation.scheduler import ACTOR

BATCH_SIZE = 500
# Longer than any call to storage with all its retries.
GRACE = timedelta(minutes=2)


@dataclass
class Collected:
    """What one run deleted: the number of blobs, and their bytes."""

    count: int = 0
    size: int = 0


class BlobMarker:
    """Goes through all blobs in the order of their sha256. If time runs out, the next run continues there."""

    def __init__(self) -> None:
        self.position = ""

    def mark(self) -> int:
        """Mark blobs that nothing refers to, unmark the others. Return how many marks changed."""
        self.changed = 0
        run_in_batches(self._mark_batch, size=BATCH_SIZE)
        return self.changed

    def _mark_batch(self) -> int:
        batch = list(Blob.objects.filter(sha256__gt=self.position).order_by("sha256")[:BATCH_SIZE])
        self.position = batch[-1].sha256 if len(batch) == BATCH_SIZE else ""
        used = digests_in_use([blob.sha256 for blob in batch])
        unused = [blob.sha256 for blob in batch if blob.sha256 not in used and blob.unreferenced_at is None]
        used_again = [blob.sha256 for blob in batch if blob.sha256 in used and blob.unreferenced_at is not None]
        for digests, value in ((unused, timezone.now()), (used_again, None)):
            # Without waiting: a draft that holds the lock removes the mark itself.
            rows = Blob.objects.select_for_update(skip_locked=True).filter(sha256__in=digests).order_by("sha256")
            locked = list(rows.values_list("sha256", flat=True))
            self.changed += Blob.objects.filter(sha256__in=locked).update(unreferenced_at=value)
        return len(batch)


def digests_in_use(digests: list[str]) -> set[str]:
    """Return those of `digests` that a bundle or an unfinished upload refers to."""
    in_bundles = BundleFile.objects.filter(sha256__in=digests).order_by().values_list("sha256", flat=True).distinct()
    in_uploads = Upload.objects.unfinished().filter(sha256__in=digests).order_by().values_list("sha256", flat=True)
    return {*in_bundles, *in_uploads}


def collect_blobs() -> int:
    """Delete blobs that nothing has referred to for BLOB_KEEP_DAYS. Return how many rows changed or were deleted."""
    if not blobs().can_delete:
        return 0
    condemned = run_in_batches(_condemn_batch, size=BATCH_SIZE)
    collected = _delete_objects()
    if collected.count:
        message = f"{collected.count} blobs ({size(collected.size)}) that no bundle used were deleted."
        record_event("blobs.collected", message, actor=ACTOR, count=collected.count, bytes=collected.size)
    forgotten, _ = BlobDeletion.objects.filter(deleted_at__lt=timezone.now() - GRACE).delete()
    return condemned + collected.count + forgotten


def _condemn_batch() -> int:
    """Replace the rows of due blobs by `BlobDeletion` rows. Return how many rows were locked."""
    due = Blob.objects.filter(unreferenced_at__lt=timezone.now() - timedelta(days=settings.BLOB_KEEP_DAYS))
    locked = list(due.select_for_update(skip_locked=True).order_by("unreferenced_at")[:BATCH_SIZE])
    used = digests_in_use([blob.sha256 for blob in locked])
    Blob.objects.filter(sha256__in=used).update(unreferenced_at=None)
    condemned = [blob for blob in locked if blob.sha256 not in used]
    BlobDeletion.objects.bulk_create(
        [BlobDeletion(sha256=blob.sha256, size=blob.size) for blob in condemned],
        update_conflicts=True, unique_fields=["sha256"], update_fields=["size", "deleted_at"],
    )  # fmt: skip
    Blob.objects.filter(sha256__in=[blob.sha256 for blob in condemned]).delete()
    return len(locked)


def _delete_objects() -> Collected:
    """Delete the objects of condemned blobs as far as time allows."""
    collected = Collected()
    pending = BlobDeletion.objects.filter(deleted_at__isnull=True)
    for deletion in time_boxed(list(pending[:BATCH_SIZE])):
        # Check again: another scheduler may have deleted it since the list was read.
        if not pending.filter(pk=deletion.pk).exists():
            continue
        blobs().delete(deletion.sha256)
        if pending.filter(pk=deletion.pk).update(deleted_at=timezone.now()):
            collected.count += 1
            collected.size += deletion.size
    return collected


def delete_old_rows() -> int:
    """Delete uploads and archives that ended UPLOAD_KEEP_DAYS ago. Return how many."""
    before = timezone.now() - timedelta(days=settings.UPLOAD_KEEP_DAYS)
    return sum(_delete_rows(rows) for rows in (Upload.objects.ended(before), SentArchive.objects.ended(before)))


def _delete_rows(rows: QuerySet[Any]) -> int:
    def delete_batch() -> int:
        batch = rows.order_by().select_for_update(skip_locked=True)[:BATCH_SIZE]
        pks = list(batch.values_list("pk", flat=True))
        rows.model._default_manager.filter(pk__in=pks).delete()
        return len(pks)

    return run_in_batches(delete_batch, size=BATCH_SIZE)
