"""Deployments, their phases, and each device's way through them.

    waiting ──► offered ──► accepted ──► downloading ──► installing ──► checking ──► succeeded | failed |
       │           │            │             │              │             │         rolled_back | rejected
       │           └────────────┴──────┬──────┴──────────────┴─────────────┘
       │                               ├── operator cancels ──► cancelling ──► cancelled, or the device's word
       └── operator cancels ─► cancelled └── deadline ──► timed_out  (cancelling: cancelled)
"""

import uuid

from django.conf import settings
from django.db import models
from django.db.models import Q

from bundles.models import Bundle
from devices.models import Device


class DeploymentState(models.TextChoices):
    RUNNING = "running", "running"
    CANCELLED = "cancelled", "cancelled"
    FINISHED = "finished", "finished"


class PhaseState(models.TextChoices):
    WAITING = "waiting", "waiting"
    OPEN = "open", "open"
    FINISHED = "finished", "finished"


class DeviceDeploymentState(models.TextChoices):
    WAITING = "waiting", "waiting"
    OFFERED = "offered", "offered"
    ACCEPTED = "accepted", "accepted"
    DOWNLOADING = "downloading", "downloading"
    INSTALLING = "installing", "installing"
    CHECKING = "checking", "checking"
    CANCELLING = "cancelling", "cancelling"
    SUCCEEDED = "succeeded", "succeeded"
    FAILED = "failed", "failed"
    ROLLED_BACK = "rolled_back", "rolled back"
    REJECTED = "rejected", "rejected"
    TIMED_OUT = "timed_out", "timed out"
    CANCELLED = "cancelled", "cancelled"


# The device holds, or may hold, the command: one such row per device and product.
ACTIVE = ("offered", "accepted", "downloading", "installing", "checking", "cancelling")
# Final for ever.
FINISHED = ("succeeded", "failed", "rolled_back", "rejected", "timed_out", "cancelled")
UNFINISHED = ("waiting", *ACTIVE)


class Deployment(models.Model):
    """An operator's decision: this bundle on these devices, in these phases."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    bundle = models.ForeignKey(Bundle, on_delete=models.PROTECT, related_name="+")
    state = models.CharField(max_length=16, choices=DeploymentState, default=DeploymentState.RUNNING, editable=False)
    note = models.CharField(max_length=500, blank=True)
    # How long one device may take from the offer to its last word.
    deadline_seconds = models.PositiveIntegerField(default=86_400)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, editable=False, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    cancelled_at = models.DateTimeField(null=True, editable=False)
    finished_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ["-created_at"]
        indexes = [
            # The scheduler's list of what to move on.
            models.Index(fields=["created_at"], name="deployment_unfinished", condition=Q(finished_at__isnull=True))
        ]

    def __str__(self) -> str:
        return f"{self.bundle} ({self.created_at:%Y-%m-%d %H:%M})"


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
    timings = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)
    offered_at = models.DateTimeField(null=True)
    state_changed_at = models.DateTimeField(auto_now_add=True)
    deadline_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

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
        ]
        indexes = [
            # Progress of one deployment by state.
            models.Index(fields=["deployment", "state"], name="device_deployment_progress"),
            # The scheduler's look for deadlines.
            models.Index(fields=["deadline_at"], name="device_deployment_deadline", condition=Q(state__in=ACTIVE)),
        ]

    def __str__(self) -> str:
        return f"{self.device_id} in {self.deployment_id}: {self.state}"
