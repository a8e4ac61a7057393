"""The time-driven tasks of the devices app.

Two schedulers may run them at once: each skips the rows that the other has locked.
"""

from collections.abc import Callable
from datetime import timedelta

from django.conf import settings
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now
from django.utils import timezone

from devices.models import (
    BulkDecision,
    Command,
    CommandOutcome,
    Device,
    DeviceQuerySet,
    DeviceState,
    Health,
    HeartbeatSample,
    LogBatch,
    LogRequest,
    LogRequestState,
)
from foundation.batches import run_in_batches
from foundation.events.models import Event
from foundation.scheduler import ACTOR, Task

BATCH_SIZE = 5_000
# A device that flaps gets at most one event about its health in this time.
HEALTH_EVENT_SECONDS = 300
# A device that flaps gets at most one `device.offline` and one `device.online` in this time.
LIVENESS_EVENT_SECONDS = 300
MAX_EVENT_MESSAGE_LENGTH = 1_000
# One log request has up to a thousand rows of text.
LOG_BATCH_SIZE = 20
# Each device of a bulk decision gets an event and may have commands to withdraw.
DECISION_BATCH_SIZE = 500

NO_LOGS_IN_TIME = "the device did not send them in time"
DECOMMISSIONED = "the device was decommissioned"
COMMAND_UNKNOWN = "the device's agent does not know this command: update the agent"
COMMAND_FAILED = "the device gave no reason"


def record_offline() -> int:
    """Write one event for each device that went offline."""
    return run_in_batches(_record_offline, size=BATCH_SIZE)


def record_online() -> int:
    """Write one event for each device that is online again after an event said that it went offline.

    It is written at least five minutes after that event, and not at all if the device is offline again by then.
    """
    return run_in_batches(_record_online, size=BATCH_SIZE)


def _record_offline() -> int:
    devices = _lock(Device.objects.newly_offline())
    Device.objects.filter(pk__in=[device.pk for device in devices]).update(offline_noted_at=Now())
    return _record_liveness(devices, "device.offline", "went offline")


def _record_online() -> int:
    latest = timezone.now() - timedelta(seconds=LIVENESS_EVENT_SECONDS)
    devices = _lock(Device.objects.returned().filter(offline_noted_at__lte=latest))
    Device.objects.filter(pk__in=[device.pk for device in devices]).update(offline_noted_at=None)
    return _record_liveness(devices, "device.online", "is online again")


def record_health() -> int:
    """Write one event for each device whose reported health changed, at most one per device and five minutes.

    A device that reports for the first time and is healthy gets no event.
    """
    return run_in_batches(_record_health, size=BATCH_SIZE)


def _record_health() -> int:
    latest = timezone.now() - timedelta(seconds=HEALTH_EVENT_SECONDS)
    is_due = Q(health_noted_at__isnull=True) | Q(health_noted_at__lte=latest)
    devices = _lock(Device.objects.with_unnoted_health().filter(is_due))
    Device.objects.filter(pk__in=[device.pk for device in devices]).update(noted_health=F("reported_health"))
    changed = [device for device in devices if device.noted_health or device.reported_health != Health.HEALTHY]
    Device.objects.filter(pk__in=[device.pk for device in changed]).update(health_noted_at=Now())
    Event.objects.bulk_create(_health_event(device) for device in changed)
    return len(devices)


def _health_event(device: Device) -> Event:
    condition = f"Device {device} is {device.reported_health}"
    message = f"Device {device}: {device.complaints}" if device.complaints else condition
    return Event(
        kind=f"device.{device.reported_health}",
        message=message[:MAX_EVENT_MESSAGE_LENGTH].rstrip(".") + ".",
        actor="device",
        device_id=device.pk,
        data={"health": device.reported_health, "previous": device.noted_health},
    )


def _lock(devices: DeviceQuerySet) -> list[Device]:
    return list(devices.select_for_update(skip_locked=True, of=("self",))[:BATCH_SIZE])


def _record_liveness(devices: list[Device], kind: str, change: str) -> int:
    Event.objects.bulk_create(
        Event(kind=kind, message=f"Device {device} {change}.", actor=ACTOR, device_id=device.pk) for device in devices
    )
    return len(devices)


def carry_out_bulk_decisions() -> int:
    """Carry out the decisions that operators made about many devices at once, oldest first."""
    return run_in_batches(_advance_bulk_decision, size=DECISION_BATCH_SIZE)


def _advance_bulk_decision() -> int:
    running = BulkDecision.objects.running().defer("device_ids").order_by("created_at")
    bulk_decision = running.select_for_update(skip_locked=True).first()
    return bulk_decision.advance(DECISION_BATCH_SIZE) if bulk_decision else 0


def delete_old_samples() -> int:
    """Delete sampled heartbeats after `HEARTBEAT_KEEP_DAYS`."""
    oldest = timezone.now() - timedelta(days=settings.HEARTBEAT_KEEP_DAYS)
    return run_in_batches(_deletion(HeartbeatSample.objects.filter(at__lt=oldest).order_by("at")), size=BATCH_SIZE)


def delete_old_commands() -> int:
    """Delete commands that were acknowledged, ended or withdrawn, `COMMAND_KEEP_DAYS` after they were queued."""
    oldest = timezone.now() - timedelta(days=settings.COMMAND_KEEP_DAYS)
    return run_in_batches(_deletion(Command.objects.closed_before(oldest).order_by("created_at")), size=BATCH_SIZE)


def _deletion(rows: QuerySet[HeartbeatSample] | QuerySet[Command]) -> Callable[[], int]:
    """Return a batch of work that deletes the first of these rows."""

    def delete() -> int:
        ids = list(rows.select_for_update(skip_locked=True).values_list("pk", flat=True)[:BATCH_SIZE])
        rows.model._default_manager.filter(pk__in=ids).delete()
        return len(ids)

    return delete


def end_log_requests() -> int:
    """Expire log requests that the device did not complete in time, and fail those whose command failed."""
    is_decommissioned = Q(device__state=DeviceState.DECOMMISSIONED)
    is_over = Q(expires_at__lte=Now()) | Q(command__ended_at__isnull=False) | is_decommissioned
    unfinished = LogRequest.objects.unfinished().select_related("command", "device")
    requests = unfinished.filter(is_over).order_by("expires_at")[:BATCH_SIZE]
    return sum(_end(request) for request in requests)


def _end(request: LogRequest) -> bool:
    """End one log request if there is a reason to. False if not, or if it ended meanwhile."""
    if request.expires_at <= timezone.now():
        return request.end(LogRequestState.EXPIRED, NO_LOGS_IN_TIME, ACTOR)
    if request.device.state == DeviceState.DECOMMISSIONED:
        return request.end(LogRequestState.FAILED, DECOMMISSIONED, ACTOR)
    command = request.command
    if command is None or command.outcome == CommandOutcome.DONE:
        return False
    if command.outcome == CommandOutcome.UNKNOWN_COMMAND:
        return request.end(LogRequestState.FAILED, COMMAND_UNKNOWN, ACTOR)
    return request.end(LogRequestState.FAILED, command.outcome_message or COMMAND_FAILED, ACTOR)


def delete_old_logs() -> int:
    """Delete log requests and their text `LOG_KEEP_DAYS` after they finished."""
    oldest = timezone.now() - timedelta(days=settings.LOG_KEEP_DAYS)
    requests = LogRequest.objects.filter(finished_at__lt=oldest).order_by("finished_at")

    def delete() -> int:
        ids = list(requests.select_for_update(skip_locked=True).values_list("pk", flat=True)[:LOG_BATCH_SIZE])
        LogBatch.objects.filter(log_request__in=ids).delete()
        LogRequest.objects.filter(pk__in=ids).delete()
        return len(ids)

    return run_in_batches(delete, size=LOG_BATCH_SIZE)


TASKS = [
    Task("record offline devices", record_offline, every_seconds=5),
    Task("record returned devices", record_online, every_seconds=5),
    Task("record health", record_health, every_seconds=5),
    Task("carry out bulk decisions", carry_out_bulk_decisions, every_seconds=2),
    Task("end log requests", end_log_requests, every_seconds=5),
    Task("delete old heartbeats", delete_old_samples, every_seconds=300),
    Task("delete old commands", delete_old_commands, every_seconds=300),
    Task("delete old logs", delete_old_logs, every_seconds=300),
]
