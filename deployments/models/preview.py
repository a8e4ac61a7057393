"""Previews: what a deployment would do, without doing it."""

import uuid
from typing import Any, Self

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from bundles.models import Bundle
from deployments.models.selection import SelectedDevices
from deployments.phases.thresholds import DEFAULT_MIN_SAMPLE


class PreviewQuerySet(models.QuerySet["Preview"]):
    def unfinished(self) -> Self:
        """The scheduler still goes through the selected devices."""
        return self.filter(finished_at=None)


class Preview(SelectedDevices):
    """A deployment that is only counted. `deployments.previews` computes it and describes `counts`."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    # Without a constraint in the database: adding one would lock the table of bundles.
    bundle = models.ForeignKey(Bundle, on_delete=models.CASCADE, related_name="+", db_index=False, db_constraint=False)
    allow_downgrade = models.BooleanField(default=False)
    strata = ArrayField(models.CharField(max_length=80), default=list)
    min_sample = models.PositiveIntegerField(default=DEFAULT_MIN_SAMPLE)
    max_bad = models.PositiveIntegerField(null=True)
    # The fields of each `PhaseDefinition`.
    phases = models.JSONField(default=list)
    counts = models.JSONField(default=dict)
    # Why it cannot be computed: `query_failed`. Empty otherwise.
    reason_code = models.CharField(max_length=64, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)

    objects = PreviewQuerySet.as_manager()

    class Meta:
        indexes = [
            # The previews that the scheduler works on.
            models.Index(fields=["created_at"], name="preview_unfinished", condition=Q(finished_at__isnull=True)),
        ]

    def __str__(self) -> str:
        return f"preview of {self.bundle_id}"

    @property
    def state(self) -> str:
        """`computing`, `ready`, or `failed`."""
        if self.finished_at is None:
            return "computing"
        return "failed" if self.reason_code else "ready"

    def save_counts(self, **fields: Any) -> None:
        """Store the counts and these further fields."""
        for name, value in fields.items():
            setattr(self, name, value)
        self.save(update_fields=["counts", *fields])
