"""Archives that a browser puts into the bucket, on their way to becoming drafts.

open ──the browser reports that it arrived──► reading ──► drafted
  │                                              ├──────► refused   (`state_reason` has the reason)
  └── nothing arrived for a long time ──► expired ◄─┘
"""

import uuid
from datetime import datetime
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models import Q

from bundles.identifiers import NAME_LENGTH
from bundles.models.base import REASON_LENGTH, ExplainedModel
from bundles.models.bundle import Bundle
from foundation.state_machine import StatefulQuerySet, Transitions


class ArchiveState(models.TextChoices):
    OPEN = "open", "open"
    READING = "reading", "reading"
    DRAFTED = "drafted", "drafted"
    REFUSED = "refused", "refused"
    EXPIRED = "expired", "expired"


ARCHIVE_TRANSITIONS = Transitions(
    {
        ArchiveState.OPEN: {ArchiveState.READING, ArchiveState.EXPIRED},
        ArchiveState.READING: {ArchiveState.DRAFTED, ArchiveState.REFUSED, ArchiveState.EXPIRED},
        ArchiveState.DRAFTED: {},
        ArchiveState.REFUSED: {},
        ArchiveState.EXPIRED: {},
    }
)
# The browser still sends it, or the scheduler has to read it.
UNFINISHED = (ArchiveState.OPEN, ArchiveState.READING)
ENDED = (ArchiveState.DRAFTED, ArchiveState.REFUSED, ArchiveState.EXPIRED)


class ArchiveQuerySet(StatefulQuerySet["SentArchive"]):
    def abandoned(self, since: datetime) -> Self:
        """Unfinished archives that were declared before then."""
        return self.in_states(*UNFINISHED).filter(created_at__lt=since)

    def ended(self, before: datetime) -> Self:
        """Finished archives that were declared before then."""
        return self.in_states(*ENDED).filter(created_at__lt=before)


class SentArchive(ExplainedModel):
    """One archive, stored at `uploads/<id>` in the bucket until it has been read."""

    transitions = ARCHIVE_TRANSITIONS

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=NAME_LENGTH)
    version = models.CharField(max_length=NAME_LENGTH)
    size = models.BigIntegerField()
    state = models.CharField(max_length=16, choices=ArchiveState, default=ArchiveState.OPEN)
    actor = models.CharField(max_length=200)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    bundle = models.ForeignKey(Bundle, null=True, on_delete=models.SET_NULL, related_name="+")

    objects = ArchiveQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        verbose_name = "archive"
        indexes = [
            # The scheduler's list of archives to read and to expire.
            models.Index(fields=["created_at"], name="archive_unfinished", condition=Q(state__in=["open", "reading"])),
        ]

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    def refuse(self, reason: str) -> bool:
        """End an archive that cannot become a draft. False if another scheduler decided first."""
        return self.transition_to(ArchiveState.REFUSED, state_reason=reason[:REASON_LENGTH])
