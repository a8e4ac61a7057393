"""The time-driven steps of this room. Each is safe to run twice at once: rows that another run holds are skipped."""

from datetime import timedelta

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now
from django.utils import timezone

from devices.models import Device, DeviceQuerySet, HeartbeatSample
from foundation.events.models import Event
from foundation.scheduler import ACTOR, Task

BATCH = 5_000


def note_offline() -> int:
    """Write one event for each device that fell silent."""
    return _note(Device.objects.silent(), "offline", "went offline", noted=True)


def note_online() -> int:
    """Write one event for each device that came back after it was noted as offline."""
    return _note(Device.objects.returned(), "online", "is online again", noted=False)


def _note(devices: DeviceQuerySet, kind: str, words: str, *, noted: bool) -> int:
    with transaction.atomic():
        due = list(devices.select_for_update(skip_locked=True, of=("self",))[:BATCH])
        Device.objects.filter(pk__in=[device.pk for device in due]).update(offline_noted_at=Now() if noted else None)
        Event.objects.bulk_create(
            Event(kind=f"device.{kind}", message=f"Device {device} {words}.", actor=ACTOR, device_id=device.pk)
            for device in due
        )
    return len(due)


def forget_samples() -> int:
    """Delete sampled heartbeats past their age, a batch at a time so that no lock is held for long."""
    oldest = timezone.now() - timedelta(days=settings.HEARTBEAT_KEEP_DAYS)
    forgotten = 0
    while True:
        batch = HeartbeatSample.objects.filter(at__lt=oldest).order_by("at").values("pk")[:BATCH]
        deleted, _ = HeartbeatSample.objects.filter(pk__in=batch).delete()
        forgotten += deleted
        if deleted < BATCH:
            return forgotten


TASKS = [
    Task("note offline devices", note_offline, every_seconds=5),
    Task("note returned devices", note_online, every_seconds=5),
    Task("forget old heartbeats", forget_samples, every_seconds=300),
]
