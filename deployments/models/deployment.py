"""Deployments, and which devices an operator selected for each."""

import uuid
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone

from bundles.models import Bundle
from deployments.states import DEPLOYMENT_TRANSITIONS, DeploymentState
from foundation.errors import IllegalTransition
from foundation.events.models import record_event
from foundation.state_machine import StatefulModel, StatefulQuerySet


@dataclass(frozen=True, slots=True)
class SkippedCounts:
    """How many selected devices are not part of the deployment, by reason."""

    not_accepted: int = 0
    wrong_device_type: int = 0
    excluded: int = 0

    def __add__(self, other: "SkippedCounts") -> "SkippedCounts":
        return SkippedCounts(
            self.not_accepted + other.not_accepted,
            self.wrong_device_type + other.wrong_device_type,
            self.excluded + other.excluded,
        )

    @classmethod
    def read(cls, document: dict[str, int]) -> "SkippedCounts":
        """Return stored counts. Reasons that this release does not know are left out."""
        return cls(**{field.name: document.get(field.name, 0) for field in fields(cls)})

    def document(self, *, has_query: bool) -> dict[str, int]:
        """Return the counts to store.

        A release before queries refuses to plan a deployment with `excluded`. It is left out where that release would
        plan correctly, and stored even if it is 0 where it would deploy to the wrong devices.
        """
        counts = asdict(self)
        return counts if has_query or self.excluded else {name: counts[name] for name in counts if name != "excluded"}

    def __str__(self) -> str:
        reasons = [
            (self.not_accepted, "not accepted"),
            (self.wrong_device_type, "of a device type that the bundle is not for"),
            (self.excluded, "excluded"),
        ]
        return ", ".join(f"{count} {reason}" for count, reason in reasons if count)


class DeploymentQuerySet(StatefulQuerySet["Deployment"]):
    def planning(self) -> Self:
        """The scheduler still goes through the selected devices."""
        return self.in_states(DeploymentState.PLANNING)

    def running(self) -> Self:
        """The bundle is still offered to devices."""
        return self.in_states(DeploymentState.RUNNING)

    def unfinished(self) -> Self:
        """Some device deployments may not have ended, even after an operator has cancelled."""
        return self.filter(finished_at__isnull=True)

    def matching(self, *, state: str = "", bundle: str = "") -> Self:
        """The operators' filters; an empty value does not filter. `bundle` is a name or `name@version`."""
        matching = self.filter(state=state) if state else self
        if bundle:
            name, _, version = bundle.partition("@")
            matching = matching.filter(bundle__name=name)
            matching = matching.filter(bundle__version=version) if version else matching
        return matching


class Deployment(StatefulModel):
    """An operator's decision: this bundle on these devices, in these phases."""

    transitions = DEPLOYMENT_TRANSITIONS

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    bundle = models.ForeignKey(Bundle, on_delete=models.PROTECT, related_name="+")
    state = models.CharField(max_length=16, choices=DeploymentState, default=DeploymentState.PLANNING, editable=False)
    # Why it ended before any device took part: `no_devices` or `bundle_withdrawn`. Empty otherwise.
    reason_code = models.CharField(max_length=64, default="", db_default="", editable=False)
    note = models.CharField(max_length=500, blank=True)
    # How long one device may take from the offer to its final report.
    deadline_seconds = models.PositiveIntegerField(default=86_400)
    # How long a success is observed, and how long a bundle may be unhealthy in that time.
    observation_seconds = models.PositiveIntegerField(default=600, db_default=600)
    unhealthy_seconds = models.PositiveIntegerField(default=60, db_default=60)
    # How many successes failed late. The counts by state do not know of it.
    late_failures = models.PositiveIntegerField(default=0, db_default=0, editable=False)
    # The fields of `SkippedCounts`; they grow while the deployment is planned.
    skipped = models.JSONField(default=dict, editable=False)
    # How many device deployments ended in which state. Stored when the deployment has finished, counted until then.
    final_counts = models.JSONField(default=dict, editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, editable=False, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    cancelled_at = models.DateTimeField(null=True, editable=False)
    finished_at = models.DateTimeField(null=True, editable=False)

    objects = DeploymentQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(condition=Q(deadline_seconds__gte=1), name="deployment_has_a_deadline"),
            # A scheduler of a version without planning would finish a deployment without devices.
            models.CheckConstraint(
                condition=~Q(state="planning") | Q(finished_at__isnull=True), name="deployment_planning_is_unfinished"
            ),
        ]
        indexes = [
            # The deployments that the scheduler works on.
            models.Index(fields=["created_at"], name="deployment_unfinished", condition=Q(finished_at__isnull=True)),
            # The list of deployments, newest first.
            models.Index(fields=["-created_at"], name="deployment_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.bundle} ({self.created_at:%Y-%m-%d %H:%M})"

    @classmethod
    def stamps(cls, target: str) -> dict[str, Any]:
        column = {DeploymentState.CANCELLED: "cancelled_at", DeploymentState.FINISHED: "finished_at"}.get(
            DeploymentState(target)
        )
        return {column: timezone.now()} if column else {}

    def cancel(self, actor: str) -> None:
        """Record that the deployment is to stop. The scheduler then ends its device deployments.

        Idempotent. Raises `IllegalTransition` (`wrong_state`) for a deployment that has finished.
        """
        with transaction.atomic():
            if self.transition_to(DeploymentState.CANCELLED):
                message = f"The deployment of {self.bundle} was cancelled."
                record_event("deployment.cancelled", message, actor=actor, deployment=self.pk, bundle=self.bundle_id)
        self.refresh_from_db(fields=["state", "reason_code", "cancelled_at", "finished_at"])
        if self.state != DeploymentState.CANCELLED:
            raise IllegalTransition(
                "wrong_state", f"The deployment is {self.state} and cannot be cancelled.", state=str(self.state)
            )

    @property
    def skipped_counts(self) -> SkippedCounts:
        return SkippedCounts.read(self.skipped)

    def add_planned(self, skipped: SkippedCounts) -> None:
        """Add what one batch of planning skipped. The caller holds the row's lock."""
        self.skipped = (self.skipped_counts + skipped).document(has_query="excluded" in self.skipped)
        Deployment.objects.filter(pk=self.pk).update(skipped=self.skipped)


class Selection(models.Model):
    """Which devices an operator selected for a deployment, and how far planning has gone through them.

    It has a separate table because lists of deployments do not read it, and it may name thousands of devices.
    """

    deployment = models.OneToOneField(Deployment, primary_key=True, on_delete=models.CASCADE, related_name="+")
    groups = ArrayField(models.UUIDField(), default=list)
    devices = ArrayField(models.UUIDField(), default=list)
    # Queries: which further devices are selected, and which of all these are not (`devices.queries`). Empty: none.
    query = models.TextField(default="", db_default="")
    exclude = models.TextField(default="", db_default="")
    # Devices are planned in the order of their ids; this is the last one so far.
    planned_up_to = models.UUIDField(null=True)

    def __str__(self) -> str:
        query = f" and {self.query}" if self.query else ""
        return f"{len(self.groups)} groups and {len(self.devices)} devices{query}"
