"""Devices, their groups, enrolment tokens, commands and sampled heartbeats.

A device's row holds two kinds of fields that never mix: what operators decide (`name`, `group`, `tags`, `state`)
and what the device reports (`attributes`, `metrics`, `running_bundles`, …).

    register ──► pending ──approve──► accepted
                    │                    │
                    └───reject───► decommissioned ◄── decommission
"""

import uuid
from datetime import timedelta
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import models, transaction
from django.db.models import F, Func, Q
from django.db.models.functions import Greatest, Now
from django.utils import timezone

from devices.commands import Command, CommandKind
from devices.groups import EnrolmentToken, Group, is_label
from foundation.errors import IllegalTransition
from foundation.events.models import record_event

__all__ = [
    "Command",
    "CommandKind",
    "Device",
    "DeviceState",
    "EnrolmentToken",
    "Group",
    "HeartbeatSample",
    "is_label",
]

# A device is offline after this many missed intervals, and never sooner than the floor.
MISSED_INTERVALS = 3
OFFLINE_FLOOR_SECONDS = 10
# So often two boot ids have to take turns on one key before it counts as cloned.
CLONE_ALTERNATIONS = 2


class DeviceState(models.TextChoices):
    PENDING = "pending", "pending"
    ACCEPTED = "accepted", "accepted"
    DECOMMISSIONED = "decommissioned", "decommissioned"


class DeviceQuerySet(models.QuerySet["Device"]):
    def accepted(self) -> "DeviceQuerySet":
        return self.filter(state=DeviceState.ACCEPTED)

    def pending(self) -> "DeviceQuerySet":
        return self.filter(state=DeviceState.PENDING)

    def decommissioned(self) -> "DeviceQuerySet":
        return self.filter(state=DeviceState.DECOMMISSIONED)

    def online(self) -> "DeviceQuerySet":
        """Accepted, and heard within three of its group's intervals."""
        return self.accepted().filter(last_heartbeat_at__gt=Now() - _patience())

    def offline(self) -> "DeviceQuerySet":
        """Accepted, and not online: silent for too long, or never heard."""
        heard = Q(last_heartbeat_at__gt=Now() - _patience())
        return self.accepted().filter(~heard | Q(last_heartbeat_at__isnull=True))

    def silent(self) -> "DeviceQuerySet":
        """Offline after having been heard, and no event says so yet."""
        return self.offline().filter(last_heartbeat_at__isnull=False, offline_noted_at__isnull=True)

    def returned(self) -> "DeviceQuerySet":
        """Online again after an event said that it had gone."""
        return self.online().filter(offline_noted_at__isnull=False)

    def counts(self) -> dict[str, int]:
        """How many are online, offline, pending and decommissioned."""
        return {
            "online": self.online().count(),
            "offline": self.offline().count(),
            "pending": self.pending().count(),
            "decommissioned": self.decommissioned().count(),
        }

    def matching(
        self, *, state: str = "", group: str = "", online: bool | None = None, tag: str = "", q: str = ""
    ) -> "DeviceQuerySet":
        """The operators' filters; what is not given does not filter. `q` is part of a name, id or device type."""
        found = self
        if online is not None:
            found = found.online() if online else found.offline()
        if state:
            found = found.filter(state=state)
        if group:
            found = found.filter(group__name=group)
        if tag:
            found = found.filter(tags__contains=[tag])
        if q:
            found = found.filter(Q(name__icontains=q) | Q(id__icontains=q) | Q(device_type__icontains=q))
        return found


def _patience() -> Func:
    """SQL: how long a device may stay silent; the same as `Device.offline_after`."""
    seconds = Greatest(F("group__interval_seconds") * MISSED_INTERVALS, OFFLINE_FLOOR_SECONDS)
    template = "make_interval(secs => %(expressions)s)"
    return Func(seconds, template=template, output_field=models.DurationField())


class Device(models.Model):
    """One enrolled edge machine. Its identity is the Ed25519 public key that it made itself."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    # Unpadded base64url of the 32 raw bytes; also the `keyid` of every signature.
    public_key = models.CharField(max_length=43, unique=True, editable=False)
    state = models.CharField(max_length=16, choices=DeviceState, default=DeviceState.PENDING, editable=False)

    # What operators decide.
    name = models.CharField(max_length=100, blank=True)
    group = models.ForeignKey(Group, on_delete=models.PROTECT, related_name="+")
    tags = ArrayField(models.CharField(max_length=63, validators=[is_label]), default=list, blank=True)
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
            # The list of devices, newest first.
            models.Index(fields=["-registered_at"], name="device_newest"),
            # The approval queue.
            models.Index(fields=["registered_at"], name="device_pending", condition=Q(state="pending")),
            # Deployments look for devices whose running bundles changed. An idle heartbeat does not touch it.
            models.Index(fields=["running_changed_at"], name="device_running_changed"),
        ]

    def __str__(self) -> str:
        return self.name or str(self.id)

    def offline_after(self) -> timedelta:
        """How long the device may stay silent before it counts as offline."""
        return timedelta(seconds=max(MISSED_INTERVALS * self.group.interval_seconds, OFFLINE_FLOOR_SECONDS))

    @property
    def is_online(self) -> bool:
        """Derived from the last heartbeat, never stored."""
        if self.state != DeviceState.ACCEPTED or self.last_heartbeat_at is None:
            return False
        return timezone.now() - self.last_heartbeat_at < self.offline_after()

    @property
    def is_cloned(self) -> bool:
        """Two machines seem to use the device's key: two boot ids take turns."""
        return self.boot_alternations >= CLONE_ALTERNATIONS

    def approve(self, actor: str) -> None:
        """Let a pending device in. Once more on an accepted one changes nothing."""
        self._move({DeviceState.PENDING}, DeviceState.ACCEPTED, "approved", actor, accepted_at=Now())

    def reject(self, actor: str) -> None:
        """Keep a pending device out, for good."""
        self._move({DeviceState.PENDING}, DeviceState.DECOMMISSIONED, "rejected", actor, decommissioned_at=Now())

    def decommission(self, actor: str) -> None:
        """Put a device out of service, for good: its key is refused from now on, its commands are withdrawn."""
        known = {DeviceState.PENDING, DeviceState.ACCEPTED}
        self._move(known, DeviceState.DECOMMISSIONED, "decommissioned", actor, decommissioned_at=Now())

    def _move(self, sources: set[DeviceState], target: DeviceState, verb: str, actor: str, **stamps: Any) -> None:
        with transaction.atomic():
            moved = Device.objects.filter(pk=self.pk, state__in=sources).update(state=target, **stamps)
            if moved:
                record_event(f"device.{verb}", f"Device {self} was {verb}.", actor=actor, device=self.pk)
            if moved and target == DeviceState.DECOMMISSIONED:
                Command.objects.for_device(self.pk).withdraw()
        self.refresh_from_db()
        if self.state != target:
            raise IllegalTransition(
                "wrong_state", f"A device that is {self.state} cannot be {verb}.", state=str(self.state)
            )

    def edit(self, actor: str, **changes: Any) -> None:
        """What operators decide about a device: `name`, `group`, `tags`."""
        if not changes:
            return
        with transaction.atomic():
            Device.objects.filter(pk=self.pk).update(**changes)
            shown: dict[str, Any] = {field: str(value) for field, value in changes.items()}
            record_event("device.edited", f"Device {self} was edited.", actor=actor, device=self.pk, **shown)
        self.refresh_from_db()

    def take_attributes(self, version: int, attributes: dict[str, Any]) -> int:
        """Keep what the device says about itself, unless a version as new is kept. Returns the version kept."""
        older = Device.objects.filter(pk=self.pk, attributes_version__lt=version)
        older.update(attributes=attributes, attributes_version=version)
        return Device.objects.values_list("attributes_version", flat=True).get(pk=self.pk)


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
