"""What the scheduler does for uploads and bundles. Every step may run twice at once and be killed anywhere.

A killed process leaves one of these behind, and the next run goes on from there:

- the upload still `verifying`, its bytes where they were: everything is done again;
- the same, and the blob at its final key already: the link is found, the rest is done;
- the upload `stored` or `refused`, its bytes not deleted yet: `sweep` deletes them.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from bundles.errors import DamagedBlob, StillHashing, UploadBusy
from bundles.missing import hopeless_blobs, missing_blobs
from bundles.models import UNFINISHED, Blob, Bundle, BundleState, Upload, UploadState
from bundles.storage.interface import blobs
from bundles.storage.sealed_upload import SealedUpload
from foundation.events.models import record_event
from foundation.scheduler import ACTOR

# One run hands the loop back after this long, so that a flood of small files does not hold up deadlines.
RUN_SECONDS = 5.0
BATCH = 500
FEW, MOST_THREADS = 8, 8


def verify_uploads() -> int:
    """Hash completed uploads; promote those that are what they claim, refuse the others. Returns how many.

    In a bucket each takes several calls: many are looked at side by side.
    """
    ends_at = time.monotonic() + RUN_SECONDS
    waiting = list(Upload.objects.verifying().order_by("touched_at").values_list("pk", "multipart_id")[:BATCH])
    if blobs().direct is not None and len(waiting) > FEW:
        return _verify_side_by_side(waiting, ends_at)
    moved = 0
    for pk, multipart_id in waiting:
        moved += _look_at(pk, multipart_id)
        if time.monotonic() > ends_at:
            break
    return moved


def _verify_side_by_side(waiting: list[tuple[UUID, str]], ends_at: float) -> int:
    def look(line: tuple[UUID, str]) -> int:
        if time.monotonic() > ends_at:
            return 0
        try:
            return _look_at(*line)
        finally:
            connection.close()

    # This thread holds one of the pool's connections.
    threads = min(MOST_THREADS, max(1, settings.DATABASE_POOL - 1)) if settings.DATABASE_POOL else MOST_THREADS
    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(look, waiting))


def _look_at(pk: UUID, multipart_id: str) -> int:
    """How many uploads went on: 1 or 0."""
    try:
        with blobs().sealed(pk, multipart_id) as sealed:
            return int(verify(pk, sealed))
    except StillHashing:
        return 1
    except UploadBusy:
        return 0


def verify(pk: UUID, sealed: SealedUpload) -> bool:
    """Decide on one upload that is held alone. False if that is done already.

    1. Look again: another scheduler may have decided while this one waited.
    2. Hash the whole, unless its blob is stored by now.
    3. Give the bytes their final key, durably.
    4. Say so in the database: from here on the blob exists.
    5. Delete the upload's own name.
    """
    row = Upload.objects.verifying().filter(pk=pk).first()
    if row is None:
        return False
    stored = Blob.objects.filter(sha256=row.sha256).first()
    reason = _why_not(row, (stored.sha256, stored.size) if stored else sealed.digest())
    if not reason and not stored:
        try:
            sealed.promote(row.sha256)
        except DamagedBlob as error:
            reason = str(error)
    moved = _refuse(row, reason) if reason else _accept(row)
    blobs().discard(row.pk)
    return moved


def _why_not(upload: Upload, found: tuple[str, int]) -> str:
    sha256, size = found
    if size != upload.size:
        return f"{upload.size} bytes were announced, {size} are there"
    if sha256 != upload.sha256:
        return f"sha256 {upload.sha256} was announced, the bytes have {sha256}"
    return ""


def _accept(upload: Upload) -> bool:
    with transaction.atomic():
        Blob.objects.bulk_create([Blob(sha256=upload.sha256, size=upload.size)], ignore_conflicts=True)
        return upload.move_to(UploadState.STORED, only_from=UploadState.VERIFYING)


def _refuse(upload: Upload, reason: str) -> bool:
    with transaction.atomic():
        if not upload.move_to(UploadState.REFUSED, only_from=UploadState.VERIFYING, reason=reason):
            return False
        record_event("upload.refused", f"An upload was refused: {reason}.", actor=ACTOR, upload=str(upload.pk))
        return True


def verify_bundles() -> int:
    """Decide on bundles that were published: ready, back to draft with the reason, or not yet. Returns how many."""
    return sum(
        _decide(bundle) for bundle in Bundle.objects.verifying().defer("manifest").order_by("created_at")[:BATCH]
    )


def _decide(bundle: Bundle) -> bool:
    if not missing_blobs(bundle):
        with transaction.atomic():
            if not bundle.move_to(BundleState.READY, only_from=BundleState.VERIFYING, ready_at=timezone.now()):
                return False
            record_event("bundle.ready", f"{bundle} is ready.", actor=ACTOR, bundle=bundle.pk)
            return True
    hopeless = [line["sha256"] for line in hopeless_blobs(bundle)]
    file = bundle.files.filter(sha256__in=hopeless).first()
    if file is None:
        return False  # something is still being hashed
    refused = Upload.objects.filter(sha256=file.sha256, state=UploadState.REFUSED).order_by("-created_at").first()
    reason = f"{file.path}: {refused.state_reason if refused else 'its bytes were not uploaded'}"
    with transaction.atomic():
        if not bundle.move_to(BundleState.DRAFT, only_from=BundleState.VERIFYING, reason=reason):
            return False
        record_event("bundle.returned", f"{bundle} is a draft again: {reason}.", actor=ACTOR, bundle=bundle.pk)
        return True


def expire_uploads() -> int:
    """End uploads that nobody continued. Returns how many."""
    patience = timedelta(seconds=settings.UPLOAD_EXPIRY_SECONDS)
    abandoned = Upload.objects.abandoned(timezone.now() - patience)
    return abandoned.update(state=UploadState.EXPIRED, state_reason="nothing arrived for a long time")


def sweep() -> int:
    """Delete the bytes of uploads that have ended, or that the database does not know. Returns how many.

    Unknown ones may belong to an archive that is being read: they count as abandoned only after the usual time.
    """
    patience = timedelta(seconds=settings.UPLOAD_EXPIRY_SECONDS)
    swept = 0
    found = dict(blobs().uploads())
    states = dict(Upload.objects.filter(pk__in=found).values_list("pk", "state"))
    for pk, touched_at in found.items():
        state = states.get(pk)
        ended = timezone.now() - touched_at > patience if state is None else state not in UNFINISHED
        if ended:
            blobs().discard(pk)
            swept += 1
    return swept
