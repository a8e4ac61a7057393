"""Deployments."""

import uuid
from collections import Counter
from typing import Any, Self

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone

from bundles.models import Bundle
from deployments.phases.thresholds import DEFAULT_MIN_SAMPLE
from deployments.states import DEPLOYMENT_TRANSITIONS, DeploymentState, FailureAction, PauseReason, SkipReason
from foundation.errors import IllegalTransition
from foundation.events.models import record_event
from foundation.state_machine import StatefulModel, StatefulQuerySet

DEFAULT_PRIORITY = 50
DEFAULT_MAX_ATTEMPTS = 3


class SkippedCounts(Counter[str]):
    """How many selected devices cannot take part, by `SkipReason`."""

    def __str__(self) -> str:
        reasons = [(self[reason], reason.label) for reason in SkipReason if self[reason]]
        return ", ".join(f"{count} {label}" for count, label in reasons)


class DeploymentQuerySet(StatefulQuerySet["Deployment"]):
    def planning(self) -> Self:
        """The scheduler still goes through the selected devices."""
        return self.in_states(DeploymentState.PLANNING)

    def running(self) -> Self:
        """The bundle is still offered to devices."""
        return self.in_states(DeploymentState.RUNNING)

    def paused(self) -> Self:
        """Nothing is offered until an operator resumes them."""
        return self.in_states(DeploymentState.PAUSED).filter(finished_at=None)

    def stoppable(self) -> Self:
        """A trip stops them: those that are running, and paused ones that are then rolled back."""
        return self.filter(
            Q(state=DeploymentState.RUNNING) | Q(state=DeploymentState.PAUSED, on_failure=FailureAction.ROLL_BACK),
            finished_at=None,
        )

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
    # Why it ended before its devices did: `no_devices`, `bundle_withdrawn`, `query_failed`, `expired`, or the reason of
    # the trip that cancelled it. Empty otherwise.
    reason_code = models.CharField(max_length=64, default="", db_default="", editable=False)
    note = models.CharField(max_length=500, blank=True)
    # How long one device may take from the offer to its final report.
    deadline_seconds = models.PositiveIntegerField(default=86_400)
    # How long a success is observed, and how long a bundle may be unhealthy in that time.
    observation_seconds = models.PositiveIntegerField(default=600, db_default=600)
    unhealthy_seconds = models.PositiveIntegerField(default=60, db_default=60)
    # How long a device may take to accept an offer before another one gets its place, and how long a phase waits for
    # devices to fill it. Neither applies to the last phase.
    accept_seconds = models.PositiveIntegerField(default=3600, db_default=3600)
    fill_seconds = models.PositiveIntegerField(default=86_400, db_default=86_400)
    # Whether devices that run a newer release of the product take part.
    allow_downgrade = models.BooleanField(default=False, db_default=False)
    # Which of several deployments of a product comes first, from 0 to 100; see `deployments.precedence`.
    priority = models.PositiveSmallIntegerField(default=DEFAULT_PRIORITY, db_default=DEFAULT_PRIORITY)
    # Nothing is offered before the one, or after the other; see `deployments.schedule`.
    start_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)
    # See `deployments.limits`. None: no limit.
    max_in_flight = models.PositiveIntegerField(null=True)
    max_in_flight_per_tag = models.PositiveIntegerField(null=True)
    limit_tag = models.CharField(max_length=63, default="", db_default="")
    min_available_percent = models.PositiveSmallIntegerField(null=True)
    devices_per_minute = models.PositiveIntegerField(null=True)
    # Up to when the offers so far have used up `devices_per_minute`.
    paced_until = models.DateTimeField(null=True, editable=False)
    # How many attempts a device has if it fails for a temporary reason; see `deployments.retries`.
    max_attempts = models.PositiveSmallIntegerField(default=DEFAULT_MAX_ATTEMPTS, db_default=1)
    # What happens when a phase trips, and what trips it besides the phases' own thresholds.
    on_failure = models.CharField(
        max_length=16, choices=FailureAction, default=FailureAction.PAUSE, db_default=FailureAction.PAUSE
    )
    min_sample = models.PositiveIntegerField(default=DEFAULT_MIN_SAMPLE, db_default=DEFAULT_MIN_SAMPLE)
    max_bad = models.PositiveIntegerField(null=True)
    # Empty unless it is paused.
    pause_reason = models.CharField(
        max_length=32, choices=PauseReason, blank=True, default="", db_default="", editable=False
    )
    paused_at = models.DateTimeField(null=True, editable=False)
    # By which properties devices are divided into strata, and how many devices each stratum has. Every phase takes its
    # share of each.
    strata = ArrayField(models.CharField(max_length=80), default=list, db_default=[])
    stratum_sizes = models.JSONField(default=dict, db_default={}, editable=False)
    # A rollback: it brings the devices of this deployment back to what they ran before.
    reverts = models.ForeignKey("self", null=True, editable=False, on_delete=models.PROTECT, related_name="rollbacks")
    # Since when it has made no progress; see `deployments.stalls`.
    stalled_at = models.DateTimeField(null=True, editable=False)
    # The deployment whose definition this one has; see `deployments.repetition`.
    repeats = models.UUIDField(null=True, editable=False)
    # How many devices take part.
    device_count = models.PositiveIntegerField(default=0, db_default=0, editable=False)
    # How many device deployments a newer deployment superseded.
    superseded = models.PositiveIntegerField(default=0, db_default=0, editable=False)
    # How many successes failed late. The counts by state do not know of it.
    late_failures = models.PositiveIntegerField(default=0, db_default=0, editable=False)
    # The `SkippedCounts`; they grow while the deployment is planned.
    skipped = models.JSONField(default=dict, editable=False)
    # How many device deployments ended in which state. Stored when the deployment has finished, counted until then.
    final_counts = models.JSONField(default=dict, editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, editable=False, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    cancelled_at = models.DateTimeField(null=True, editable=False)
    rolled_back_at = models.DateTimeField(null=True, editable=False)
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
        return f"{self.title} ({self.created_at:%Y-%m-%d %H:%M})"

    @classmethod
    def stamps(cls, target: str) -> dict[str, Any]:
        column = {
            DeploymentState.PAUSED: "paused_at",
            DeploymentState.CANCELLED: "cancelled_at",
            DeploymentState.FINISHED: "finished_at",
        }.get(DeploymentState(target))
        not_paused = {} if target == DeploymentState.PAUSED else {"pause_reason": "", "paused_at": None}
        if target == DeploymentState.ROLLING_BACK:
            return not_paused | {"rolled_back_at": timezone.now(), "finished_at": None}
        return not_paused | ({column: timezone.now()} if column else {})

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
    def title(self) -> str:
        """What it deploys, for people: `vad@1.0.0`, or `rollback of vad@1.0.0`."""
        return f"rollback of {self.bundle}" if self.reverts_id else str(self.bundle)

    @property
    def skipped_counts(self) -> SkippedCounts:
        return SkippedCounts(self.skipped)

    def add_planned(self, devices: int, skipped: SkippedCounts) -> None:
        """Add what one batch of planning found. The caller holds the row's lock."""
        self.device_count += devices
        self.skipped = dict(self.skipped_counts + skipped)
        Deployment.objects.filter(pk=self.pk).update(device_count=self.device_count, skipped=self.skipped)
