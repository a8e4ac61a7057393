"""Devices: what operators decide about them, and what they report. See `device_state` for their states.

A device's row holds two kinds of fields that never mix: what operators decide (`name`, `group`, `tags`, `is_test`,
`state`) and what the device reports (`attributes`, `metrics`, `running_bundles` and others).
"""

import uuid
from datetime import datetime, timedelta
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import models, transaction
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone

from devices.models.device_queryset import MISSED_INTERVALS, OFFLINE_MINIMUM_SECONDS, DeviceQuerySet
from devices.models.device_state import DECISION_RULES, DEVICE_TRANSITIONS, Decision, DeviceState
from devices.models.group import IS_STATIC, Group, is_label
from devices.models.health import Health, complaints
from foundation.errors import IllegalTransition
from foundation.events.models import record_event
from foundation.state_machine import StatefulModel

# A key counts as cloned when two boot ids have taken turns on it this often.
CLONE_ALTERNATIONS = 2


class Device(StatefulModel):
    """One enrolled edge machine. Its identity is the Ed25519 public key that it generated."""

    transitions = DEVICE_TRANSITIONS

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    # Unpadded base64url of the 32 raw bytes; also the `keyid` of every signature.
    public_key = models.CharField(max_length=43, unique=True, editable=False)
    state = models.CharField(max_length=16, choices=DeviceState, default=DeviceState.PENDING, editable=False)

    # What operators decide.
    name = models.CharField(max_length=100, blank=True)
    group = models.ForeignKey(Group, on_delete=models.PROTECT, related_name="+", limit_choices_to=IS_STATIC)
    tags = ArrayField(models.CharField(max_length=63, validators=[is_label]), default=list, blank=True)
    is_test = models.BooleanField(
        "test device", default=False, db_default=False,
        help_text="Left out of the fleet's statistics. Deployments can admit test devices first.",
    )  # fmt: skip
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
    # The digest of products and manifests; `running_changed_at` is when it last changed.
    running_sha256 = models.CharField(max_length=64, default="", db_default="", editable=False)
    running_changed_at = models.DateTimeField(null=True, editable=False)
    # A `Health`, or empty before the first heartbeat.
    reported_health = models.CharField(max_length=16, default="", db_default="", editable=False)
    health_changed_at = models.DateTimeField(null=True, editable=False)
    # The health that the last event about it named, and when that was.
    noted_health = models.CharField(max_length=16, default="", db_default="", editable=False)
    health_noted_at = models.DateTimeField(null=True, editable=False)

    # What the heartbeat maintains. None of these columns has an index, on purpose: an UPDATE that changes no indexed
    # column stays inside its page (HOT) and adds no index entry.
    sequence = models.BigIntegerField(default=0, editable=False)
    heartbeat_sha256 = models.CharField(max_length=64, default="", editable=False)
    last_heartbeat_at = models.DateTimeField(null=True, editable=False)
    # The rate limit (GCRA): the time up to which the device has used its heartbeats.
    heartbeat_due_at = models.DateTimeField(null=True, editable=False)
    sampled_at = models.DateTimeField(null=True, editable=False)
    offline_noted_at = models.DateTimeField(null=True, editable=False)
    boot_id = models.CharField(max_length=64, default="", editable=False)
    previous_boot_id = models.CharField(max_length=64, default="", editable=False)
    boot_alternations = models.PositiveIntegerField(default=0, editable=False)
    clone_noted_at = models.DateTimeField(null=True, editable=False)

    objects = DeviceQuerySet.as_manager()

    class Meta:
        ordering = ["name", "id"]
        indexes = [
            # Lists and deployments by group.
            models.Index(fields=["group", "state"], name="device_group_state"),
            # The list of devices, newest first.
            models.Index(fields=["-registered_at"], name="device_newest"),
            # Test devices, which deployments may admit first.
            models.Index(fields=["id"], name="device_test", condition=Q(is_test=True)),
            # The approval queue.
            models.Index(fields=["registered_at"], name="device_pending", condition=Q(state="pending")),
            # Deployments look for devices whose running bundles changed. An idle heartbeat does not change the column.
            models.Index(fields=["running_changed_at"], name="device_running_changed"),
            # Queries: `attr.KEY = value` and `tag = value`. Heartbeats change neither column.
            GinIndex(OpClass(F("attributes"), name="jsonb_path_ops"), name="device_attributes"),
            GinIndex(fields=["tags"], name="device_tags"),
            # Devices whose health the scheduler has to record.
            models.Index(
                fields=["health_changed_at"],
                name="device_health_unnoted",
                condition=~Q(reported_health=F("noted_health")),
            ),
        ]

    def __str__(self) -> str:
        return self.name or str(self.id)

    @classmethod
    def stamps(cls, target: str) -> dict[str, Any]:
        """Return the time column that changes with a transition to `target`."""
        column = {DeviceState.ACCEPTED: "accepted_at", DeviceState.DECOMMISSIONED: "decommissioned_at"}
        return {column[DeviceState(target)]: Now()}

    def offline_after(self) -> timedelta:
        """Return the silence after which the device is offline."""
        return timedelta(seconds=max(MISSED_INTERVALS * self.group.interval_seconds, OFFLINE_MINIMUM_SECONDS))

    @property
    def is_online(self) -> bool:
        """Derived from the last heartbeat, never stored."""
        return self.is_online_at(timezone.now())

    def is_online_at(self, now: datetime) -> bool:
        """Return whether the device is online if the time is `now`."""
        if self.state != DeviceState.ACCEPTED or self.last_heartbeat_at is None:
            return False
        return now - self.last_heartbeat_at < self.offline_after()

    @property
    def health(self) -> Health:
        """The health that the device reports, or `unknown` if it is not online."""
        return self.health_at(timezone.now())

    def health_at(self, now: datetime) -> Health:
        """Return the health if the time is `now`."""
        return Health(self.reported_health) if self.reported_health and self.is_online_at(now) else Health.UNKNOWN

    @property
    def complaints(self) -> str:
        """Which bundles are not healthy and why, in one line. Empty if all are."""
        return complaints(self.running_bundles)

    @property
    def is_cloned(self) -> bool:
        """Whether two machines seem to use the device's key: two boot ids take turns."""
        return self.boot_alternations >= CLONE_ALTERNATIONS

    def approve(self, actor: str) -> None:
        """Accept a pending device. Idempotent.

        Raises:
            IllegalTransition: `wrong_state`, for a decommissioned device.
        """
        self.decide(Decision.APPROVE, actor)

    def reject(self, actor: str) -> None:
        """Refuse a pending device permanently. Idempotent.

        Raises:
            IllegalTransition: `wrong_state`, for an accepted device.
        """
        self.decide(Decision.REJECT, actor)

    def decommission(self, actor: str) -> None:
        """Put a device out of service permanently: its key is refused and its commands are withdrawn. Idempotent."""
        self.decide(Decision.DECOMMISSION, actor)

    def decide(self, decision: Decision, actor: str) -> None:
        """Carry out a decision about this device. Idempotent.

        Raises:
            IllegalTransition: `wrong_state`, if the device's state does not allow it.
        """
        rule = DECISION_RULES[decision]
        Device.objects.filter(pk=self.pk).decide(decision, actor)
        self.refresh_from_db()
        if self.state != rule.target:
            raise IllegalTransition(
                "wrong_state", f"A device that is {self.state} cannot be {rule.participle}.", state=str(self.state)
            )

    def edit(self, actor: str, **changes: Any) -> None:
        """Change what operators decide about a device: `name`, `group`, `tags`, `is_test`."""
        if not changes:
            return
        with transaction.atomic():
            Device.objects.filter(pk=self.pk).update(**changes)
            shown: dict[str, Any] = {field: str(value) for field, value in changes.items()}
            record_event("device.edited", f"Device {self} was edited.", actor=actor, device=self.pk, **shown)
        self.refresh_from_db()

    def store_attributes(self, version: int, attributes: dict[str, Any]) -> int:
        """Replace the reported attributes if `version` is newer than the stored one. Return the stored version."""
        older = Device.objects.filter(pk=self.pk, attributes_version__lt=version)
        older.update(attributes=attributes, attributes_version=version)
        return Device.objects.values_list("attributes_version", flat=True).get(pk=self.pk)
