"""Uploads: bytes that become a blob when they are complete and verified.

open ──complete──► verifying ──► stored
  │                    └───────► refused   (wrong sha256 or size; `state_reason` has the reason)
  └── abandoned ──────────────► expired
"""

import uuid
from collections.abc import Collection
from datetime import datetime
from typing import Self

from django.conf import settings
from django.db import models, transaction
from django.db.models import Q, Sum
from django.utils import timezone

from bundles.identifiers import ANCHORED_SHA256_PATTERN, SHA256_LENGTH
from bundles.models.base import REASON_LENGTH, ExplainedModel
from foundation.errors import Conflict, NotFound
from foundation.events.models import record_event
from foundation.scheduler import ACTOR
from foundation.state_machine import StatefulQuerySet, Transitions


class UploadState(models.TextChoices):
    OPEN = "open", "open"
    VERIFYING = "verifying", "verifying"
    STORED = "stored", "stored"
    REFUSED = "refused", "refused"
    EXPIRED = "expired", "expired"


UPLOAD_TRANSITIONS = Transitions(
    {
        UploadState.OPEN: {UploadState.VERIFYING, UploadState.EXPIRED},
        UploadState.VERIFYING: {UploadState.STORED, UploadState.REFUSED},
        UploadState.STORED: {},
        UploadState.REFUSED: {},
        UploadState.EXPIRED: {},
    }
)
# The publisher is still sending parts, or the scheduler has yet to hash them.
UNFINISHED = (UploadState.OPEN, UploadState.VERIFYING)
ENDED = (UploadState.STORED, UploadState.REFUSED, UploadState.EXPIRED)


class UploadQuerySet(StatefulQuerySet["Upload"]):
    def open(self) -> Self:
        """Uploads that accept parts."""
        return self.in_states(UploadState.OPEN)

    def unfinished(self) -> Self:
        """Uploads that are open or wait for the scheduler to hash them."""
        return self.in_states(*UNFINISHED)

    def verifying(self) -> Self:
        """Uploads that the scheduler hashes next."""
        return self.in_states(UploadState.VERIFYING)

    def abandoned(self, since: datetime) -> Self:
        """Open uploads that have received no part since then."""
        return self.open().filter(touched_at__lt=since)

    def ended(self, before: datetime) -> Self:
        """Finished uploads that were last touched before then."""
        return self.in_states(*ENDED).filter(touched_at__lt=before)

    def outstanding_size(self) -> int:
        """Return how many bytes open uploads have declared and not sent yet."""
        declared = self.open().aggregate(size=Sum("size"))["size"] or 0
        received = UploadPart.objects.filter(upload__in=self.open()).aggregate(size=Sum("size"))["size"] or 0
        return max(0, declared - received)


class Upload(ExplainedModel):
    """The bytes of a future blob, in parts numbered from 1. They are never at a final key."""

    transitions = UPLOAD_TRANSITIONS

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    sha256 = models.CharField(max_length=SHA256_LENGTH)
    size = models.BigIntegerField()
    part_size = models.PositiveIntegerField()
    # The bucket's id of the multipart upload, if parts are put into the bucket directly.
    multipart_id = models.TextField(default="", db_default="", blank=True)
    state = models.CharField(max_length=16, choices=UploadState, default=UploadState.OPEN)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    # Changes with every part: an upload expires only when no part arrives for a while.
    touched_at = models.DateTimeField(auto_now_add=True)

    objects = UploadQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(condition=Q(sha256__regex=ANCHORED_SHA256_PATTERN), name="upload_sha256"),
            models.CheckConstraint(condition=Q(size__gte=0), name="upload_size_not_negative"),
            # Two concurrent requests for the same upload start it once.
            models.UniqueConstraint(
                fields=["created_by", "sha256", "size"], name="upload_open_once", condition=Q(state="open")
            ),
        ]
        indexes = [
            # The scheduler's list of uploads to hash and to expire.
            models.Index(
                fields=["state", "touched_at"], name="upload_unfinished", condition=Q(state__in=["open", "verifying"])
            ),
            # Whether a blob is being uploaded.
            models.Index(
                fields=["sha256"], name="upload_sha256_unfinished", condition=Q(state__in=["open", "verifying"])
            ),
            # The scheduler's list of old rows to delete.
            models.Index(
                fields=["touched_at"], name="upload_ended", condition=Q(state__in=["stored", "refused", "expired"])
            ),
        ]

    def __str__(self) -> str:
        return f"{self.id} ({self.state})"

    @property
    def part_count(self) -> int:
        """The number of parts; 0 for an empty file."""
        return -(-self.size // self.part_size)

    def size_of_part(self, number: int) -> int:
        """Return the size in bytes of part `number` (from 1): `part_size`, or the remainder for the last one."""
        return min(self.part_size, self.size - (number - 1) * self.part_size)

    def check_part_number(self, number: int) -> None:
        """Raise `NotFound` (`no_such_part`) for a part number that this upload does not have."""
        if not 1 <= number <= self.part_count:
            raise NotFound("no_such_part", f"This upload has the parts 1 to {self.part_count}.")

    def closed(self) -> Conflict:
        """Return the error for a change to an upload that is no longer open."""
        self.refresh_from_db()
        reason = f" ({self.state_reason})" if self.state_reason else ""
        return Conflict(
            "upload_closed", f"This upload is {self.state}{reason} and accepts no more parts.", state=self.state
        )

    def record_parts(self, parts: Collection["UploadPart"], fields: Collection[str]) -> None:
        """Insert or update the rows of these parts, while the upload is open. Raises `Conflict` (`upload_closed`)."""
        with transaction.atomic():
            if not Upload.objects.open().filter(pk=self.pk).update(touched_at=timezone.now()):
                raise self.closed()
            UploadPart.objects.bulk_create(
                parts, update_conflicts=True, unique_fields=["upload", "number"], update_fields=list(fields)
            )

    def refuse(self, reason: str) -> bool:
        """Refuse an upload whose bytes are not those that were declared. False if another scheduler decided first."""
        with transaction.atomic():
            if not self.transition_to(UploadState.REFUSED, state_reason=reason[:REASON_LENGTH]):
                return False
            record_event("upload.refused", f"An upload was refused: {reason}.", actor=ACTOR, upload=str(self.pk))
            return True


class UploadPart(models.Model):
    """A part whose bytes are on disk, synced, and match the declared sha256.

    A part with an `md5` was declared for the bucket. The bucket alone records whether it arrived.
    """

    id = models.BigAutoField(primary_key=True)
    upload = models.ForeignKey(Upload, on_delete=models.CASCADE, related_name="parts")
    number = models.PositiveIntegerField()
    sha256 = models.CharField(max_length=SHA256_LENGTH)
    size = models.PositiveIntegerField()
    md5 = models.CharField(max_length=32, default="", db_default="", blank=True)

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["upload", "number"], name="upload_part_once"),
            models.CheckConstraint(condition=Q(number__gte=1), name="upload_part_number_from_one"),
        ]

    def __str__(self) -> str:
        return f"part {self.number}"
