"""Devices, their groups, enrolment tokens, commands and sampled heartbeats.

A device's row holds two kinds of fields that never mix: what operators decide (`name`, `group`, `tags`, `state`)
and what the device reports (`attributes`, `metrics`, `running_bundles`, …).

    register ──► pending ──approve──► accepted
                    │                    │
                    └───reject───► decommissioned ◄── decommission
"""

import uuid
from datetime import timedelta

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

# A device is offline after this many missed intervals, and never sooner than the floor.
MISSED_INTERVALS = 3
OFFLINE_FLOOR_SECONDS = 10


class DeviceState(models.TextChoices):
    PENDING = "pending", "pending"
    ACCEPTED = "accepted", "accepted"
    DECOMMISSIONED = "decommissioned", "decommissioned"


class CommandKind(models.TextChoices):
    DEPLOY = "deploy", "deploy"
    CANCEL = "cancel", "cancel"
    ROLL_BACK = "roll_back", "roll back"
    CONFIGURE = "configure", "configure"
    SEND_LOGS = "send_logs", "send logs"
    ROTATE_KEY = "rotate_key", "rotate key"


class Group(models.Model):
    """A set of devices that operators treat alike; it decides how often its devices report."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=100, unique=True)
    description = models.CharField(max_length=500, blank=True)
    interval_seconds = models.PositiveIntegerField(default=60)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(condition=Q(interval_seconds__range=(1, 86_400)), name="group_interval_in_range")
        ]

    def __str__(self) -> str:
        return self.name


class EnrolmentToken(models.Model):
    """What an operator hands out so that devices may register. The secret is shown once; the row keeps its sha256."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=100)
    secret_sha256 = models.CharField(max_length=64, unique=True, editable=False)
    group = models.ForeignKey(Group, on_delete=models.PROTECT, related_name="+")
    accepts_at_once = models.BooleanField(default=False)
    uses_allowed = models.PositiveIntegerField(default=1)
    uses = models.PositiveIntegerField(default=0, editable=False)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, editable=False, on_delete=models.SET_NULL, related_name="+"
    )

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(condition=Q(uses__lte=F("uses_allowed")), name="token_uses_within_allowance")
        ]

    def __str__(self) -> str:
        return self.name


class DeviceQuerySet(models.QuerySet["Device"]):
    def accepted(self) -> "DeviceQuerySet":
        return self.filter(state=DeviceState.ACCEPTED)

    def pending(self) -> "DeviceQuerySet":
        return self.filter(state=DeviceState.PENDING)


class Device(models.Model):
    """One enrolled edge machine. Its identity is the Ed25519 public key that it made itself."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    # Unpadded base64url of the 32 raw bytes; also the `keyid` of every signature.
    public_key = models.CharField(max_length=43, unique=True, editable=False)
    state = models.CharField(max_length=16, choices=DeviceState, default=DeviceState.PENDING, editable=False)

    # What operators decide.
    name = models.CharField(max_length=100, blank=True)
    group = models.ForeignKey(Group, on_delete=models.PROTECT, related_name="+")
    tags = ArrayField(models.CharField(max_length=64), default=list, blank=True)
    registered_at = models.DateTimeField(auto_now_add=True)
    accepted_at = models.DateTimeField(null=True, editable=False)
    decommissioned_at = models.DateTimeField(null=True, editable=False)

    # What the device reports.
    device_type = models.CharField(max_length=63, editable=False)
    hardware = models.JSONField(default=dict, editable=False)
    attributes = models.JSONField(default=dict, editable=False)
    attributes_version = models.BigIntegerField(default=0, editable=False)
    agent_version = models.CharField(max_length=64, default="", editable=False)
    status = models.CharField(max_length=32, default="", editable=False)
    metrics = models.JSONField(default=dict, editable=False)
    running_bundles = models.JSONField(default=dict, editable=False)
    running_changed_at = models.DateTimeField(null=True, editable=False)

    # What the heartbeat keeps. `last_heartbeat_at` has no index on purpose: a heartbeat that touches no index
    # stays inside its page (HOT) and leaves no index entry behind.
    sequence = models.BigIntegerField(default=0, editable=False)
    heartbeat_sha256 = models.CharField(max_length=64, default="", editable=False)
    last_heartbeat_at = models.DateTimeField(null=True, editable=False)
    sampled_at = models.DateTimeField(null=True, editable=False)
    offline_noted_at = models.DateTimeField(null=True, editable=False)
    boot_id = models.CharField(max_length=64, default="", editable=False)
    previous_boot_id = models.CharField(max_length=64, default="", editable=False)
    boot_alternations = models.PositiveIntegerField(default=0, editable=False)

    objects = DeviceQuerySet.as_manager()

    class Meta:
        ordering = ["name", "id"]
        indexes = [
            # Lists and deployments by group.
            models.Index(fields=["group", "state"], name="device_group_state"),
            # The approval queue.
            models.Index(fields=["registered_at"], name="device_pending", condition=Q(state="pending")),
        ]

    def __str__(self) -> str:
        return self.name or str(self.id)

    def offline_after(self) -> timedelta:
        """How long the device may stay silent before it counts as offline."""
        return timedelta(seconds=max(MISSED_INTERVALS * self.group.interval_seconds, OFFLINE_FLOOR_SECONDS))

    @property
    def is_online(self) -> bool:
        """Derived from the last heartbeat, never stored."""
        return self.last_heartbeat_at is not None and timezone.now() - self.last_heartbeat_at < self.offline_after()


class Command(models.Model):
    """What a heartbeat's answer asks of a device, repeated in order of `id` until acknowledged."""

    id = models.BigAutoField(primary_key=True)
    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=16, choices=CommandKind)
    payload = models.JSONField(default=dict)
    # Which device deployment and attempt asked for it; a plain id, because devices do not know deployments.
    device_deployment_id = models.UUIDField(null=True)
    attempt = models.PositiveIntegerField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    acknowledged_at = models.DateTimeField(null=True)
    withdrawn_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            # Two servers at once create a command exactly once.
            models.UniqueConstraint(
                fields=["device_deployment_id", "attempt", "kind"], name="command_once_per_attempt_and_kind"
            )
        ]
        indexes = [
            # The heartbeat's look into the queue.
            models.Index(
                fields=["device", "id"],
                name="command_open",
                condition=Q(acknowledged_at__isnull=True, withdrawn_at__isnull=True),
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} #{self.id}"


class HeartbeatSample(models.Model):
    """Every so often one heartbeat is kept as history; the scheduler deletes old ones."""

    id = models.BigAutoField(primary_key=True)
    device = models.ForeignKey(Device, on_delete=models.CASCADE, related_name="+", db_index=False)
    at = models.DateTimeField()
    status = models.CharField(max_length=32)
    metrics = models.JSONField()

    class Meta:
        ordering = ["-at"]
        indexes = [
            # One device's history, newest first.
            models.Index(fields=["device", "-at"], name="sample_device_at"),
            # Retention walks by age.
            models.Index(fields=["at"], name="sample_at"),
        ]

    def __str__(self) -> str:
        return f"{self.device_id} {self.at:%Y-%m-%d %H:%M}"
