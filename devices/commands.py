"""The queue of commands: each is created once, offered in order until acknowledged, and never to another device."""

import json
from collections.abc import Collection, Iterable
from typing import Any
from uuid import UUID

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

# What a heartbeat answers at most; the rest follows when these are acknowledged.
OFFERED_AT_ONCE = 100

# One statement, so that two servers at once do not both believe to have queued a command.
_QUEUE = """
INSERT INTO devices_command (device_id, kind, payload, device_deployment_id, attempt, created_at)
SELECT device_id, kind, payload::jsonb, device_deployment_id, attempt, now()
FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::uuid[], %s::int[])
     WITH ORDINALITY AS asked (device_id, kind, payload, device_deployment_id, attempt, place)
ORDER BY place
ON CONFLICT DO NOTHING
RETURNING *
"""


class CommandKind(models.TextChoices):
    DEPLOY = "deploy", "deploy"
    CANCEL = "cancel", "cancel"
    ROLL_BACK = "roll_back", "roll back"
    CONFIGURE = "configure", "configure"
    SEND_LOGS = "send_logs", "send logs"
    ROTATE_KEY = "rotate_key", "rotate key"


class CommandQuerySet(models.QuerySet["Command"]):
    def open(self) -> "CommandQuerySet":
        """Neither acknowledged nor withdrawn: what the next heartbeat offers."""
        return self.filter(acknowledged_at__isnull=True, withdrawn_at__isnull=True)

    def for_device(self, device_id: UUID) -> "CommandQuerySet":
        return self.filter(device_id=device_id)

    def for_device_deployments(self, ids: Collection[UUID]) -> "CommandQuerySet":
        """What these device deployments asked for, in whichever attempt."""
        return self.filter(device_deployment_id__in=ids)

    def queue(
        self,
        device_id: UUID,
        kind: str,
        payload: dict[str, Any],
        *,
        device_deployment_id: UUID | None = None,
        attempt: int | None = None,
    ) -> "Command | None":
        """Put one command into a device's queue. None if this device deployment, attempt and kind has it already."""
        asked = self.model(
            device_id=device_id,
            kind=kind,
            payload=payload,
            device_deployment_id=device_deployment_id,
            attempt=attempt,
        )
        return next(iter(self.queue_many([asked])), None)

    def queue_many(self, asked: Iterable["Command"]) -> list["Command"]:
        """Put unsaved commands into their devices' queues, in one statement. Returns those that were not there yet."""
        commands = list(asked)
        if not commands:
            return []
        columns = [
            [command.device_id for command in commands],
            [str(command.kind) for command in commands],
            [json.dumps(command.payload) for command in commands],
            [command.device_deployment_id for command in commands],
            [command.attempt for command in commands],
        ]
        return list(self.raw(_QUEUE, columns))

    def withdraw(self) -> int:
        """Take back those of these commands that no device has acknowledged. Returns how many.

        No heartbeat will offer them any more, which does not say that their devices never saw them.
        """
        return self.open().update(withdrawn_at=Now())


class Command(models.Model):
    """What a heartbeat's answer asks of a device, repeated in order of `id` until acknowledged."""

    id = models.BigAutoField(primary_key=True)
    device = models.ForeignKey("devices.Device", on_delete=models.CASCADE, related_name="+")
    kind = models.CharField(max_length=16, choices=CommandKind)
    payload = models.JSONField(default=dict)
    # Which device deployment and attempt asked for it; a plain id, because devices do not know deployments.
    device_deployment_id = models.UUIDField(null=True)
    attempt = models.PositiveIntegerField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    acknowledged_at = models.DateTimeField(null=True)
    withdrawn_at = models.DateTimeField(null=True)

    objects = CommandQuerySet.as_manager()

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
