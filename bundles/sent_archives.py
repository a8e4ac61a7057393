"""Archives that a browser put into the bucket, on their way to becoming drafts.

open ──the browser says it is there──► reading ──► drafted
  │                                       └──────► refused   (with the reason)
  └── nothing came for a long time ──► expired
"""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q

from bundles.transitions import Stateful


class ArchiveState(models.TextChoices):
    OPEN = "open", "open"
    READING = "reading", "reading"
    DRAFTED = "drafted", "drafted"
    REFUSED = "refused", "refused"
    EXPIRED = "expired", "expired"


# Somebody still works on it: the browser sends it, or the scheduler reads it.
UNFINISHED = (ArchiveState.OPEN, ArchiveState.READING)


class SentArchive(Stateful):
    """One archive, at `uploads/<id>` in the bucket until it was read."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=63)
    version = models.CharField(max_length=63)
    size = models.BigIntegerField()
    state = models.CharField(max_length=16, choices=ArchiveState, default=ArchiveState.OPEN)
    actor = models.CharField(max_length=200)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    bundle = models.ForeignKey("bundles.Bundle", null=True, on_delete=models.SET_NULL, related_name="+")

    class Meta:
        ordering = ["-created_at"]
        verbose_name = "archive"
        indexes = [
            # The scheduler's look for archives to read and to expire.
            models.Index(fields=["created_at"], name="archive_unfinished", condition=Q(state__in=["open", "reading"])),
        ]

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"
