"""Deployments, their phases, and each device's way through them. The states are drawn in `deployments.states`."""

import uuid
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import models, transaction
from django.db.models import Count, Q
from django.utils import timezone

from bundles.models import Bundle
from deployments.hold import Hold
from deployments.states import (
    ACTIVE,
    FINISHED,
    MOVES,
    UNFINISHED,
    UNSUCCESSFUL,
    DeploymentState,
    DeviceDeploymentState,
    PhaseState,
    sources_of,
)
from devices.models import Device
from foundation.errors import IllegalTransition
from foundation.events.models import record_event

__all__ = [
    "ACTIVE",
    "FINISHED",
    "UNFINISHED",
    "UNSUCCESSFUL",
    "Comparison",
    "Deployment",
    "DeploymentQuerySet",
    "DeploymentState",
    "DeviceDeployment",
    "DeviceDeploymentQuerySet",
    "DeviceDeploymentState",
    "Hold",
    "Phase",
    "PhaseState",
]


class DeploymentQuerySet(models.QuerySet["Deployment"]):
    def running(self) -> "DeploymentQuerySet":
        """Devices are still offered their turn."""
        return self.filter(state=DeploymentState.RUNNING)

    def unfinished(self) -> "DeploymentQuerySet":
        """Some device has not ended, also where an operator has cancelled."""
        return self.filter(finished_at__isnull=True)

    def matching(self, *, state: str = "", bundle: str = "") -> "DeploymentQuerySet":
        """The operators' filters; what is not given does not filter. `bundle` is a name, or `name@version`."""
        found = self.filter(state=state) if state else self
        if bundle:
            name, _, version = bundle.partition("@")
            found = found.filter(bundle__name=name)
            found = found.filter(bundle__version=version) if version else found
        return found


class Deployment(models.Model):
    """An operator's decision: this bundle on these devices, in these phases."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    bundle = models.ForeignKey(Bundle, on_delete=models.PROTECT, related_name="+")
    state = models.CharField(max_length=16, choices=DeploymentState, default=DeploymentState.RUNNING, editable=False)
    note = models.CharField(max_length=500, blank=True)
    # How long one device may take from the offer to its last word.
    deadline_seconds = models.PositiveIntegerField(default=86_400)
    # How many chosen devices were left out, by reason.
    skipped = models.JSONField(default=dict, editable=False)
    # How many devices ended how; kept when the deployment ends, counted until then.
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
        constraints = [models.CheckConstraint(condition=Q(deadline_seconds__gte=1), name="deployment_has_a_deadline")]
        indexes = [
            # The scheduler's list of what to move on.
            models.Index(fields=["created_at"], name="deployment_unfinished", condition=Q(finished_at__isnull=True)),
            # The list of deployments, newest first.
            models.Index(fields=["-created_at"], name="deployment_newest"),
        ]

    def __str__(self) -> str:
        return f"{self.bundle} ({self.created_at:%Y-%m-%d %H:%M})"

    def cancel(self, actor: str) -> None:
        """Stop: devices that wait are cancelled now, devices at work are asked to by the scheduler's next step.

        Harmless when repeated. Raises `IllegalTransition` (`wrong_state`) for a deployment that has finished.
        """
        running = Deployment.objects.running().filter(pk=self.pk)
        with transaction.atomic():
            if running.update(state=DeploymentState.CANCELLED, cancelled_at=timezone.now()):
                waiting = DeviceDeployment.objects.filter(deployment_id=self.pk, state=DeviceDeploymentState.WAITING)
                waiting.move_to(DeviceDeploymentState.CANCELLED, reason_code="cancelled")
                message = f"The deployment of {self.bundle} was cancelled."
                record_event("deployment.cancelled", message, actor=actor, deployment=self.pk, bundle=self.bundle_id)
        self.refresh_from_db(fields=["state", "cancelled_at", "finished_at"])
        if self.state != DeploymentState.CANCELLED:
            raise IllegalTransition(
                "wrong_state", f"The deployment is {self.state} and cannot be cancelled.", state=str(self.state)
            )


class Phase(models.Model):
    """One step of a deployment: how many devices, when it counts as good, when as bad, how long it soaks."""

    id = models.BigAutoField(primary_key=True)
    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="phases")
    number = models.PositiveSmallIntegerField()
    state = models.CharField(max_length=16, choices=PhaseState, default=PhaseState.WAITING)
    device_count = models.PositiveIntegerField()
    success_threshold_percent = models.PositiveSmallIntegerField(default=100)
    error_threshold_percent = models.PositiveSmallIntegerField(default=100)
    soak_seconds = models.PositiveIntegerField(default=0)
    opened_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["deployment", "number"], name="phase_number_once"),
            models.CheckConstraint(
                condition=Q(success_threshold_percent__lte=100, error_threshold_percent__lte=100),
                name="phase_thresholds_are_percent",
            ),
        ]

    def __str__(self) -> str:
        return f"phase {self.number}"


class DeviceDeploymentQuerySet(models.QuerySet["DeviceDeployment"]):
    def waiting(self) -> "DeviceDeploymentQuerySet":
        return self.filter(state=DeviceDeploymentState.WAITING)

    def active(self) -> "DeviceDeploymentQuerySet":
        """The device holds, or may hold, the command."""
        return self.filter(state__in=ACTIVE)

    def unfinished(self) -> "DeviceDeploymentQuerySet":
        return self.filter(state__in=UNFINISHED)

    def unsuccessful(self) -> "DeviceDeploymentQuerySet":
        """Ended otherwise than wished."""
        return self.filter(state__in=UNSUCCESSFUL)

    def overdue(self, now: datetime) -> "DeviceDeploymentQuerySet":
        """Still active past the deadline."""
        return self.active().filter(deadline_at__lte=now)

    def with_device_names(self) -> "DeviceDeploymentQuerySet":
        """Each row with its device, of which only the name is read."""
        return self.select_related("device").only(
            *(field.name for field in DeviceDeployment._meta.concrete_fields), "device__name"
        )

    def counts(self) -> dict[uuid.UUID, dict[str, int]]:
        """How many of these rows are in which state, for each deployment."""
        counted: dict[uuid.UUID, dict[str, int]] = {}
        lines = self.order_by().values_list("deployment_id", "state").annotate(Count("pk"))
        for deployment_id, state, count in lines:
            counted.setdefault(deployment_id, {})[state] = count
        return counted

    def move_to(self, state: str, **fields: Any) -> int:
        """Move those of these rows that may go there, by one conditional UPDATE. Returns how many moved.

        The rows must be chosen by their own columns alone: a join would become a subquery, which the database does not
        look at again when another process was faster.
        """
        now = timezone.now()
        if state in FINISHED:
            fields["finished_at"] = now
        return self.filter(state__in=sources_of(state)).update(state=state, state_changed_at=now, **fields)


class DeviceDeployment(models.Model):
    """One device's way through one deployment. `attempt` counts tries; `report` the device's last word within one."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    deployment = models.ForeignKey(Deployment, on_delete=models.CASCADE, related_name="device_deployments")
    phase = models.ForeignKey(Phase, on_delete=models.CASCADE, related_name="+")
    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="+")
    product = models.CharField(max_length=63)  # the bundle's name, for the constraint below
    state = models.CharField(max_length=16, choices=DeviceDeploymentState, default=DeviceDeploymentState.WAITING)
    attempt = models.PositiveSmallIntegerField(default=1)
    report = models.PositiveIntegerField(default=0)
    reason_code = models.CharField(max_length=64, default="")
    message = models.TextField(default="")
    bytes_done = models.BigIntegerField(default=0)
    bytes_total = models.BigIntegerField(default=0)
    # What the device measured, by the name of the step, in seconds.
    timings = models.JSONField(default=dict)
    # When the server first knew of each step; a step that the device skipped has the time of the next.
    reached_at = models.JSONField(default=dict)
    # What the device claimed after the end: shown, and nothing more.
    late_state = models.CharField(max_length=16, default="")
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
                fields=["device", "product"], name="one_active_per_device_and_product", condition=Q(state__in=ACTIVE)
            ),
            models.CheckConstraint(
                condition=Q(state__in=DeviceDeploymentState.values), name="device_deployment_state_known"
            ),
            # Whoever is at work has an end in sight; whoever has ended has not.
            models.CheckConstraint(
                condition=~Q(state__in=ACTIVE) | Q(deadline_at__isnull=False), name="device_deployment_deadline_set"
            ),
            models.CheckConstraint(
                condition=Q(state__in=FINISHED, finished_at__isnull=False)
                | (~Q(state__in=FINISHED) & Q(finished_at__isnull=True)),
                name="device_deployment_finished_at",
            ),
        ]
        indexes = [
            # Progress of one deployment by state.
            models.Index(fields=["deployment", "state"], name="device_deployment_progress"),
            # The scheduler's look for deadlines.
            models.Index(fields=["deadline_at"], name="device_deployment_deadline", condition=Q(state__in=ACTIVE)),
            # The scheduler's look for whose turn it is.
            models.Index(fields=["device", "product"], name="device_deployment_waiting", condition=Q(state="waiting")),
            # What a device should run: its last success.
            models.Index(
                fields=["device", "product", "-finished_at"],
                name="device_deployment_succeeded",
                condition=Q(state="succeeded"),
            ),
            # The last failures, newest first.
            models.Index(
                fields=["-finished_at"], name="device_deployment_failures", condition=Q(state__in=UNSUCCESSFUL)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.device_id} in {self.deployment_id}: {self.state}"

    def advance(self, state: str, **fields: Any) -> bool:
        """Write what a report changes, and move if `state` is another one. False if somebody else was faster.

        Raises `IllegalTransition` (`illegal_transition`).
        """
        seen = DeviceDeployment.objects.filter(pk=self.pk, state=self.state, attempt=self.attempt, report=self.report)
        if state == self.state:
            changed = seen.update(**fields)
        elif state in MOVES[self.state]:
            changed = seen.move_to(state, **fields)
        else:
            raise IllegalTransition(
                "illegal_transition", f"A device deployment does not go from {self.state} to {state}."
            )
        if changed:
            for name, value in {"state": state, **fields}.items():
                setattr(self, name, value)
        return bool(changed)


class Comparison(models.Model):
    """How far a device's reported bundles were compared with what was deployed, and what differed."""

    device = models.OneToOneField(Device, primary_key=True, on_delete=models.CASCADE, related_name="+")
    # The device's `running_changed_at` when it was last compared.
    compared_to = models.DateTimeField()
    # By product: what was expected and what the device reports, as `name@version`.
    differences = models.JSONField(default=dict)

    def __str__(self) -> str:
        return f"{self.device_id}: {len(self.differences)} differences"
