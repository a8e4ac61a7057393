"""The scheduler's tasks for uploads and published bundles. Two schedulers may run a task at once, or be killed in it.

A killed process leaves one of these behind, and the next run continues from there:

- the upload is still `verifying`, and its bytes are in place: everything is done again;
- the same, and the blob is already at its final key: `promote` finds it there, and only the rest is done;
- the upload is `stored` or `refused`, and its bytes are not deleted yet: `delete_leftovers` deletes them.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from bundles.errors import DamagedBlob, StillHashing, UploadBusy
from bundles.identifiers import Digest
from bundles.missing_blobs import lost_blobs, missing_blobs
from bundles.models import UNFINISHED, Blob, BlobDeletion, Bundle, Upload, UploadState
from bundles.storage.interface import SealedUpload, blobs
from foundation.batches import time_boxed

# A run returns to the scheduler after this time, so that many small files do not delay its other tasks.
RUN_SECONDS = 5.0
BATCH_SIZE = 500
# With more uploads than this, threads are worth starting.
PARALLEL_FROM = 8


@dataclass(frozen=True, slots=True)
class WaitingUpload:
    id: UUID
    multipart_id: str


def verify_uploads() -> int:
    """Hash completed uploads; promote those that match, refuse the others. Return how many made progress."""
    being_deleted = BlobDeletion.objects.filter(sha256=OuterRef("sha256"))
    queue = Upload.objects.verifying().exclude(Exists(being_deleted)).order_by("touched_at")
    waiting = [WaitingUpload(*row) for row in queue.values_list("pk", "multipart_id")[:BATCH_SIZE]]
    threads = blobs().parallel_verifications if len(waiting) > PARALLEL_FROM else 1
    if threads == 1:
        return sum(_verify(upload) for upload in time_boxed(waiting, RUN_SECONDS))
    return _verify_in_parallel(waiting, threads)


def _verify_in_parallel(waiting: list[WaitingUpload], threads: int) -> int:
    deadline = time.monotonic() + RUN_SECONDS

    def work(upload: WaitingUpload) -> int:
        if time.monotonic() > deadline:
            return 0
        try:
            return _verify(upload)
        finally:
            connection.close()

    if settings.DATABASE_POOL:  # this thread has one of the pool's connections
        threads = min(threads, max(1, settings.DATABASE_POOL - 1))
    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(work, waiting))


def _verify(upload: WaitingUpload) -> int:
    """Return 1 if the upload made progress, otherwise 0."""
    try:
        with blobs().sealed(upload.id, upload.multipart_id) as sealed:
            return int(verify(upload.id, sealed))
    except StillHashing:
        return 1
    except UploadBusy:
        return 0


def verify(pk: UUID, sealed: SealedUpload) -> bool:
    """Decide on one sealed upload. False if it was decided already, or if the blob is being deleted.

    1. Read the row again: another scheduler may have decided while this one waited.
    2. Hash all bytes, unless the blob is stored by now.
    3. Give the bytes their final key, durably.
    4. Record the blob in the database: from here on it exists.
    5. Delete the bytes under the upload's own key.
    """
    upload = Upload.objects.verifying().filter(pk=pk).first()
    if upload is None:
        return False
    stored = Blob.objects.filter(sha256=upload.sha256).first()
    # In this order: a blob that the collector moves between both reads is seen in one of them.
    if stored is None and BlobDeletion.objects.filter(sha256=upload.sha256).exists():
        return False
    reason = _mismatch(upload, Digest(stored.sha256, stored.size) if stored else sealed.digest())
    if not reason and not stored:
        try:
            sealed.promote(upload.sha256)
        except DamagedBlob as error:
            reason = str(error)
    is_decided = upload.refuse(reason) if reason else _accept(upload, is_stored=stored is not None)
    if is_decided or not Upload.objects.verifying().filter(pk=pk).exists():
        blobs().discard(pk)
    return is_decided


def _mismatch(upload: Upload, digest: Digest) -> str:
    """Return how the bytes differ from what was declared, or an empty string."""
    if digest.size != upload.size:
        return f"{upload.size} bytes were declared, {digest.size} arrived"
    if digest.sha256 != upload.sha256:
        return f"sha256 {upload.sha256} was declared, the bytes have {digest.sha256}"
    return ""


def _accept(upload: Upload, *, is_stored: bool) -> bool:
    """Record the blob. False if another scheduler decided first, or the stored blob was collected since."""
    with transaction.atomic():
        if not is_stored:
            Blob.objects.bulk_create([Blob(sha256=upload.sha256, size=upload.size)], ignore_conflicts=True)
        elif not Blob.objects.select_for_update().filter(sha256=upload.sha256).exists():
            return False
        return upload.transition_to(UploadState.STORED)


def verify_bundles() -> int:
    """Make published bundles ready, or return them to drafts with the reason. Return how many were decided."""
    published = Bundle.objects.verifying().defer("manifest").order_by("created_at")[:BATCH_SIZE]
    return sum(_decide(bundle) for bundle in time_boxed(published, RUN_SECONDS))


def _decide(bundle: Bundle) -> bool:
    if not missing_blobs(bundle):
        return bundle.finish_verifying()
    lost = [blob.sha256 for blob in lost_blobs(bundle)]
    file = bundle.files.filter(sha256__in=lost).first()
    if file is None:
        return False  # an upload is still being hashed
    refused = Upload.objects.in_states(UploadState.REFUSED).filter(sha256=file.sha256).order_by("-created_at").first()
    return bundle.return_to_draft(f"{file.path}: {refused.state_reason if refused else 'its bytes were not uploaded'}")


def expire_uploads() -> int:
    """Expire uploads that nobody continued. Return how many."""
    abandoned = Upload.objects.abandoned(timezone.now() - timedelta(seconds=settings.UPLOAD_EXPIRY_SECONDS))
    return abandoned.transition_to(UploadState.EXPIRED, state_reason="no part arrived for a long time")


def delete_leftovers() -> int:
    """Delete the bytes of uploads that have ended, or that have no row in the database. Return how many.

    Bytes without a row may belong to an archive that is being read, so they are deleted only after the usual time.
    """
    patience = timedelta(seconds=settings.UPLOAD_EXPIRY_SECONDS)
    stored = dict(blobs().uploads())
    states = dict(Upload.objects.filter(pk__in=stored).values_list("pk", "state"))
    deleted = 0
    for pk, touched_at in stored.items():
        state = states.get(pk)
        has_ended = timezone.now() - touched_at > patience if state is None else state not in UNFINISHED
        if has_ended:
            blobs().discard(pk)
            deleted += 1
    return deleted
