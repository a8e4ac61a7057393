"""Commands: what heartbeat responses ask of devices, and how each one ended.

A device's commands form a queue. Each is created once and offered, oldest first, until it is acknowledged.

The state of a command is derived from its times, never stored:

    queued ──► acknowledged ──► ended
       │            ▲             ▲
       │            │ (1)         │ (1)
       └────► withdrawn ──────────┘

    (1) The device had received the command before the server withdrew it.

| state        | holds when                                  |
|--------------|---------------------------------------------|
| ended        | `ended_at` is set                           |
| acknowledged | otherwise, `acknowledged_at` is set         |
| withdrawn    | otherwise, `withdrawn_at` is set            |
| queued       | none of the three is set                    |
"""

import json
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any, ClassVar, Optional, Protocol
from uuid import UUID

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

# How many commands one heartbeat response offers at most. The rest follows when these are acknowledged.
OFFERED_AT_ONCE = 100
MAX_OUTCOME_MESSAGE_LENGTH = 500

# One statement: if two servers race, only one queues the command.
_QUEUE = """
INSERT INTO devices_command (device_id, kind, payload, device_deployment_id, attempt, created_at)
SELECT device_id, kind, payload::jsonb, device_deployment_id, attempt, now()
FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::uuid[], %s::int[])
     WITH ORDINALITY AS new_command (device_id, kind, payload, device_deployment_id, attempt, position)
ORDER BY position
ON CONFLICT DO NOTHING
RETURNING *
"""


class CommandKind(models.TextChoices):
    DEPLOY = "deploy", "deploy"
    CANCEL = "cancel", "cancel"
    SEND_LOGS = "send_logs", "send logs"


class CommandOutcome(models.TextChoices):
    """How a command ended on its device, as the device reported it."""

    DONE = "done", "done"
    FAILED = "failed", "failed"
    UNKNOWN_COMMAND = "unknown_command", "unknown command"


class CommandState(models.TextChoices):
    QUEUED = "queued", "queued"
    ACKNOWLEDGED = "acknowledged", "acknowledged"
    ENDED = "ended", "ended"
    WITHDRAWN = "withdrawn", "withdrawn"


class CommandPayload(Protocol):
    """What a command of one kind carries."""

    kind: ClassVar[CommandKind]

    def as_json(self) -> dict[str, Any]:
        """Return the payload as heartbeat responses show it."""


class CommandQuerySet(models.QuerySet["Command"]):
    def open(self) -> "CommandQuerySet":
        """Neither acknowledged nor withdrawn: what the next heartbeat response offers."""
        return self.filter(acknowledged_at__isnull=True, withdrawn_at__isnull=True)

    def closed_before(self, moment: datetime) -> "CommandQuerySet":
        """Created before `moment`, and acknowledged or withdrawn: what retention deletes."""
        return self.filter(
            Q(acknowledged_at__isnull=False) | Q(withdrawn_at__isnull=False) | Q(ended_at__isnull=False),
            created_at__lt=moment,
        )

    def for_device(self, device_id: UUID) -> "CommandQuerySet":
        return self.filter(device_id=device_id)

    def for_device_deployments(self, ids: Collection[UUID]) -> "CommandQuerySet":
        """The commands of these device deployments, of every attempt."""
        return self.filter(device_deployment_id__in=ids)

    def queue(
        self,
        device_id: UUID,
        payload: CommandPayload,
        *,
        device_deployment_id: UUID | None = None,
        attempt: int | None = None,
    ) -> Optional["Command"]:
        """Add one command to a device's queue. None if the attempt already has one of this kind."""
        command = self.model.build(device_id, payload, device_deployment_id=device_deployment_id, attempt=attempt)
        return next(iter(self.queue_many([command])), None)

    def queue_many(self, commands: Iterable["Command"]) -> list["Command"]:
        """Add unsaved commands to their devices' queues, in one statement. Return those that were added."""
        new = list(commands)
        if not new:
            return []
        columns = [
            [command.device_id for command in new],
            [str(command.kind) for command in new],
            [json.dumps(command.payload) for command in new],
            [command.device_deployment_id for command in new],
            [command.attempt for command in new],
        ]
        return list(self.raw(_QUEUE, columns))

    def withdraw(self) -> int:
        """Withdraw those of these commands that no device has acknowledged. Return how many.

        No later heartbeat response offers them. A device may have received one before and may still acknowledge it.
        """
        return self.open().update(withdrawn_at=Now())


class Command(models.Model):
    """One command for one device."""

    id = models.BigAutoField(primary_key=True)
    device = models.ForeignKey("devices.Device", on_delete=models.CASCADE, related_name="+", db_index=False)
    kind = models.CharField(max_length=16, choices=CommandKind)
    payload = models.JSONField(default=dict)
    # The device deployment and attempt that queued it. A plain id, because this app cannot import deployments.
    device_deployment_id = models.UUIDField(null=True)
    attempt = models.PositiveIntegerField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    acknowledged_at = models.DateTimeField(null=True)
    withdrawn_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=16, choices=CommandOutcome, default="", db_default="", blank=True)
    outcome_message = models.CharField(max_length=MAX_OUTCOME_MESSAGE_LENGTH, default="", db_default="", blank=True)

    objects = CommandQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            # If two servers race, only one queues the command.
            models.UniqueConstraint(
                fields=["device_deployment_id", "attempt", "kind"], name="command_once_per_attempt_and_kind"
            )
        ]
        indexes = [
            # The heartbeat reads the open commands of its device.
            models.Index(
                fields=["device", "id"],
                name="command_open",
                condition=Q(acknowledged_at__isnull=True, withdrawn_at__isnull=True),
            ),
            # The history of one device, newest first.
            models.Index(fields=["device", "-id"], name="command_device"),
            # Retention deletes by age.
            models.Index(fields=["created_at"], name="command_created"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} #{self.id}"

    @classmethod
    def build(
        cls,
        device_id: UUID,
        payload: CommandPayload,
        *,
        device_deployment_id: UUID | None = None,
        attempt: int | None = None,
    ) -> "Command":
        """Return an unsaved command for `CommandQuerySet.queue_many`."""
        return cls(
            device_id=device_id,
            kind=payload.kind,
            payload=payload.as_json(),
            device_deployment_id=device_deployment_id,
            attempt=attempt,
        )

    @property
    def state(self) -> CommandState:
        """Derived from the times, as in the table at the top of this file."""
        if self.ended_at is not None:
            return CommandState.ENDED
        if self.acknowledged_at is not None:
            return CommandState.ACKNOWLEDGED
        if self.withdrawn_at is not None:
            return CommandState.WITHDRAWN
        return CommandState.QUEUED
