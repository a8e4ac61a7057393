"""Device deployments: one device's part in one deployment."""

import uuid
from typing import Any

from django.db import models
from django.db.models import Q
from django.utils import timezone

from bundles.models import Bundle
from deployments.models.deployment import Deployment
from deployments.models.device_deployment_queryset import IS_UNSUCCESSFUL, DeviceDeploymentQuerySet
from deployments.models.phase import Phase
from deployments.states import (
    ACTIVE_STATES,
    DEVICE_DEPLOYMENT_TRANSITIONS,
    FAILED_LATE,
    FINAL_STATES,
    DeviceDeploymentState,
)
from devices.models import Device
from foundation.errors import IllegalTransition
from foundation.state_machine import StatefulModel

# How much of a long message a page shows before it is opened.
LAST_LINES = 3


class DeviceDeployment(StatefulModel):
    """One device's part in one deployment.

    `attempt` counts how often the device was asked, and `failures` how often it then failed. `report` is the number of
    its last report within the attempt.
    """

    transitions = DEVICE_DEPLOYMENT_TRANSITIONS

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="device_deployments")
    # The phase that admitted the device. None: the device waits for its phase, or was skipped.
    phase = models.ForeignKey(Phase, on_delete=models.CASCADE, related_name="+", null=True)
    admitted_at = models.DateTimeField(null=True)
    # The order of admission, lowest first, and the stratum: see `deployments.planning`.
    rank = models.BigIntegerField(default=0, db_default=0)
    stratum = models.CharField(max_length=200, default="", db_default="")
    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="+")
    product = models.CharField(max_length=63)  # the bundle's name, for the constraint below
    # In a rollback, the bundle that this device returns to. None: the bundle of the deployment. There is no constraint
    # in the database, because adding one would have locked the bundles.
    bundle = models.ForeignKey(
        Bundle, null=True, on_delete=models.PROTECT, related_name="+", db_index=False, db_constraint=False
    )
    # The manifest of the product that the device ran when it accepted the offer. Empty: none, or not known.
    previous_manifest_sha256 = models.CharField(max_length=64, default="", db_default="")
    state = models.CharField(max_length=16, choices=DeviceDeploymentState, default=DeviceDeploymentState.WAITING)
    attempt = models.PositiveSmallIntegerField(default=1)
    # How many attempts failed for a temporary reason, and when the next one may begin.
    failures = models.PositiveSmallIntegerField(default=0, db_default=0)
    retry_at = models.DateTimeField(null=True)
    report = models.PositiveIntegerField(default=0)
    reason_code = models.CharField(max_length=64, default="")
    message = models.TextField(default="")
    bytes_done = models.BigIntegerField(default=0)
    bytes_total = models.BigIntegerField(default=0)
    # What the device measured, in seconds, by the names in `deployments.reports.TIMINGS`.
    timings = models.JSONField(default=dict)
    # When the server first learned of each stage; a stage that the device skipped has the time of the next.
    reached_at = models.JSONField(default=dict)
    # A success is observed until this time; None once the observation has ended. See `deployments.observation`.
    observation_ends_at = models.DateTimeField(null=True)
    # What the last heartbeat makes the scheduler suspect, and since when: a `LateReason`, or empty.
    suspicion = models.CharField(max_length=16, default="", db_default="")
    suspected_at = models.DateTimeField(null=True)
    # Why and when a success failed late.
    late_reason_code = models.CharField(max_length=64, default="", db_default="")
    late_message = models.TextField(default="", db_default="")
    late_at = models.DateTimeField(null=True)
    # The state that the device reported last after the end.
    late_state = models.CharField(max_length=16, default="")
    # How many events were recorded for such reports.
    late_events = models.SmallIntegerField(default=0, db_default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    offered_at = models.DateTimeField(null=True)
    state_changed_at = models.DateTimeField(auto_now_add=True)
    deadline_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects = DeviceDeploymentQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["deployment", "device"], name="device_once_per_deployment"),
            models.UniqueConstraint(
                fields=["device", "product"],
                name="one_active_per_device_and_product",
                condition=Q(state__in=ACTIVE_STATES),
            ),
            models.CheckConstraint(
                condition=Q(state__in=DeviceDeploymentState.values), name="device_deployment_state_known"
            ),
            # Every active row has a deadline.
            models.CheckConstraint(
                condition=~Q(state__in=ACTIVE_STATES) | Q(deadline_at__isnull=False),
                name="device_deployment_deadline_set",
            ),
            models.CheckConstraint(
                condition=Q(state__in=FINAL_STATES, finished_at__isnull=False)
                | (~Q(state__in=FINAL_STATES) & Q(finished_at__isnull=True)),
                name="device_deployment_finished_at",
            ),
        ]
        indexes = [
            # Progress of one deployment by state.
            models.Index(fields=["deployment", "state"], name="device_deployment_progress"),
            # The scheduler looks for deadlines.
            models.Index(
                fields=["deadline_at"], name="device_deployment_deadline", condition=Q(state__in=ACTIVE_STATES)
            ),
            # The scheduler looks for devices to offer to.
            models.Index(fields=["device", "product"], name="device_deployment_waiting", condition=Q(state="waiting")),
            # What a device should run: its last success.
            models.Index(
                fields=["device", "product", "-finished_at"],
                name="device_deployment_succeeded",
                condition=Q(state="succeeded"),
            ),
            # Which devices a phase admits next.
            models.Index(
                fields=["deployment", "rank"],
                name="device_deployment_candidates",
                condition=Q(state="waiting", phase__isnull=True),
            ),
            # The last failures, newest first.
            models.Index(fields=["-finished_at"], name="device_deployment_unsuccessful", condition=IS_UNSUCCESSFUL),
            # Whether a device is cooling down: its last failures.
            models.Index(fields=["device", "finished_at"], name="device_deployment_cooling", condition=IS_UNSUCCESSFUL),
            # The metric of successes that failed late in the last hour.
            models.Index(fields=["late_at"], name="device_deployment_failed_late", condition=Q(late_at__isnull=False)),
            # The scheduler looks at successes under observation.
            models.Index(
                fields=["deployment"],
                name="device_deployment_observed",
                condition=Q(observation_ends_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.device_id} in {self.deployment_id}: {self.state}"

    @classmethod
    def stamps(cls, target: str) -> dict[str, Any]:
        now = timezone.now()
        return {"state_changed_at": now} | ({"finished_at": now} if target in FINAL_STATES else {})

    def apply_report(self, state: str, **fields: Any) -> bool:
        """Write what a report changes, with a transition if `state` differs. False if the row has changed since.

        The UPDATE compares state, attempt and report number with those of this object. Raises `IllegalTransition`
        (`illegal_transition`).
        """
        unchanged = DeviceDeployment.objects.filter(pk=self.pk, attempt=self.attempt, report=self.report)
        if state == self.state:
            changed = unchanged.in_states(self.state).update(**fields)
        elif self.transitions.allows(self.state, state):
            changed = unchanged.transition_to(state, only_from=[self.state], **fields)
        else:
            raise IllegalTransition(
                "illegal_transition", f"A device deployment does not go from {self.state} to {state}."
            )
        if changed:
            for name, value in {"state": state, **fields}.items():
                setattr(self, name, value)
        return bool(changed)

    @property
    def target(self) -> Bundle:
        """The bundle that the device is to run."""
        return self.bundle or self.deployment.bundle

    @property
    def last_lines(self) -> str:
        """The end of the message, where a log says what went wrong."""
        return "\n".join(self.message.strip().splitlines()[-LAST_LINES:])

    @property
    def result(self) -> str:
        """The state, or `failed_late` for a success that failed afterwards."""
        return FAILED_LATE if self.late_at else self.state

    @property
    def shown_result(self) -> str:
        """The label of `result`."""
        return "failed late" if self.late_at else DeviceDeploymentState(self.state).label

    @property
    def shown_reason(self) -> str:
        """Why the device deployment ended as it did, or why it failed late."""
        return self.late_reason_code or self.reason_code

    @property
    def shown_late_state(self) -> str:
        """The label of `late_state`."""
        return DeviceDeploymentState(self.late_state).label if self.late_state else ""
