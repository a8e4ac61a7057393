"""What devices say about their deployments.

1. The row is found by deployment and device: what was not told to this device does not exist for it.
2. The attempt has to be the present one.
3. A row that has ended stays as it is. The last report said again is answered as before; anything newer is noted as an
   event, shown beside the row, and refused.
4. A report number that was seen already changes nothing.
5. A new report moves the row forward, or only changes its progress. It is written by one conditional UPDATE that
   compares what was read; when somebody else was faster, everything is looked at again.
"""

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from deployments.models import FINISHED, DeviceDeployment
from deployments.states import after_report, passed
from deployments.termination import ended_event
from devices.models import Command
from foundation.api.times import format_time
from foundation.errors import BadRequest, Conflict, NotFound, Unavailable
from foundation.events.models import record_event

TRIES = 5


@dataclass(frozen=True, slots=True)
class Report:
    """One report: `report` counts within `attempt`; sizes are bytes, `timings` seconds by the name of the step."""

    attempt: int
    report: int
    state: str
    reason_code: str = ""
    message: str = ""
    bytes_done: int | None = None
    bytes_total: int | None = None
    timings: dict[str, float] = field(default_factory=dict)


def take(device_id: UUID, deployment_id: UUID, said: Report) -> str:
    """Take a device's report. Returns the state in which the device deployment now is.

    Raises:
        NotFound: `not_found`: this device was never told of such a deployment.
        BadRequest: `unknown_attempt`.
        Conflict: `old_attempt`, with `attempt`; `ended`, with `state`.
        Unavailable: the row changed under our hands several times.
    """
    for _ in range(TRIES):
        row = DeviceDeployment.objects.filter(deployment_id=deployment_id, device_id=device_id).first()
        if row is None or row.offered_at is None:
            raise NotFound("not_found", "This device has no such deployment.")
        _check_attempt(row, said)
        if said.report == row.report:
            return row.state
        if row.state in FINISHED:
            _note_late(row, said)
            raise Conflict(
                "ended",
                "This deployment has ended on this device; nothing is to be reported any more.",
                state=row.state,
            )
        if said.report < row.report or _apply(row, said):
            return row.state
    raise Unavailable("busy", "The deployment is changing right now; send the same report again.")


def _check_attempt(row: DeviceDeployment, said: Report) -> None:
    if said.attempt < row.attempt:
        raise Conflict("old_attempt", f"Attempt {row.attempt} has begun.", attempt=row.attempt, state=row.state)
    if said.attempt > row.attempt:
        raise BadRequest("unknown_attempt", f"The present attempt is {row.attempt}.", attempt=row.attempt)


def _apply(row: DeviceDeployment, said: Report) -> bool:
    """Write a report that is new. False if somebody else was faster."""
    target = after_report(row.state, said.state)
    with transaction.atomic():
        if not row.advance(target, **_changes(row, said, target)):
            return False
        if target in FINISHED:
            Command.objects.for_device_deployments([row.pk]).withdraw()
            ended_event(row, target, said.reason_code, "device").save(force_insert=True)
    return True


def _changes(row: DeviceDeployment, said: Report, target: str) -> dict[str, Any]:
    now = format_time(timezone.now())
    changes: dict[str, Any] = {
        "report": said.report,
        "reason_code": said.reason_code,
        "message": said.message,
        "timings": row.timings | said.timings,
        "reached_at": row.reached_at | dict.fromkeys(passed(row.state, target), now),
    }
    if said.bytes_done is not None:
        changes["bytes_done"] = said.bytes_done
    if said.bytes_total is not None:
        changes["bytes_total"] = said.bytes_total
    return changes


def _note_late(row: DeviceDeployment, said: Report) -> None:
    """Keep what a device claims after the end, and one event for each claim that is another than the one before."""
    if said.report < row.report:
        return
    with transaction.atomic():
        another = DeviceDeployment.objects.filter(pk=row.pk).exclude(late_state=said.state)
        if another.update(late_state=said.state):
            record_event(
                "deployment.late_report",
                f"After its deployment of {row.product} had ended as {row.state}, the device reported {said.state}.",
                actor="device",
                device=row.device_id,
                deployment=row.deployment_id,
                state=row.state,
                reported=said.state,
                reason_code=said.reason_code,
            )
