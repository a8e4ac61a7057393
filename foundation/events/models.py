"""The event model: what happened, to which device, bundle or deployment, and who did it.

Rows are only inserted, and deleted when they are old. They refer to devices, bundles and deployments by plain ids,
because this layer must not import those apps.
"""

from typing import Any
from uuid import UUID

from django.db import models
from django.db.models import Q

BACKUP_MADE = "backup.made"


class Event(models.Model):
    """One thing that happened. `kind` is `noun.verb`, such as `device.accepted`.

    `actor` is `operator:NAME`, `device`, `scheduler`, `anonymous` (nobody is signed in), `restore`, or
    `manage.py` (a command on the server).
    """

    id = models.BigAutoField(primary_key=True)
    at = models.DateTimeField(auto_now_add=True)
    kind = models.CharField(max_length=64)
    actor = models.CharField(max_length=160)
    message = models.CharField(max_length=1000)
    device_id = models.UUIDField(null=True)
    bundle_id = models.UUIDField(null=True)
    deployment_id = models.UUIDField(null=True)
    data = models.JSONField(default=dict)

    class Meta:
        ordering = ["-id"]
        indexes = [
            # The history of one device, bundle or deployment, newest first.
            models.Index(fields=["device_id", "-id"], name="event_device", condition=Q(device_id__isnull=False)),
            models.Index(fields=["bundle_id", "-id"], name="event_bundle", condition=Q(bundle_id__isnull=False)),
            models.Index(
                fields=["deployment_id", "-id"], name="event_deployment", condition=Q(deployment_id__isnull=False)
            ),
            # The last backup, for each scrape of /metrics.
            models.Index(fields=["-at"], name="event_backup", condition=Q(kind=BACKUP_MADE)),
        ]

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}"


def record_event(
    kind: str,
    message: str,
    *,
    actor: str,
    device: UUID | None = None,
    bundle: UUID | None = None,
    deployment: UUID | None = None,
    **data: Any,
) -> Event:
    """Write one event, inside the caller's transaction if there is one."""
    return Event.objects.create(
        kind=kind,
        message=message[:1000],
        actor=actor,
        device_id=device,
        bundle_id=bundle,
        deployment_id=deployment,
        data=data,
    )
