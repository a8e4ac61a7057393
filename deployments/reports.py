"""Reports: what devices say about their device deployments.

1. The row is found by deployment and device. A deployment that was never offered to this device does not exist for it.
2. The attempt has to be the current one.
3. A row that has ended keeps its state. A later report is accepted and recorded, with an event for the first few that
   differ. If a device reports failure after its success, the success has failed late.
4. A report number that was seen already changes nothing.
5. If a device fails for a temporary reason, its device deployment waits for the next attempt, and the response
   confirms the reported state.
6. A new report moves the row forward, or changes only its progress, by one conditional UPDATE that compares what was
   read. If another process won the race, the report is checked again from the start.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from bundles.identifiers import SHA256_LENGTH
from deployments.models import FINAL_STATES, UNSUCCESSFUL_STATES, Deployment, DeviceDeployment, DeviceDeploymentState
from deployments.observation import LateFailure, fail_late
from deployments.phases.advance import trip_if_exceeded
from deployments.retries import may_retry, next_attempt
from deployments.states import stages_passed, state_after_report
from deployments.termination import ended_event
from devices.models import Command, Device
from foundation.api.times import format_time
from foundation.errors import BadRequest, Conflict, NotFound, Unavailable
from foundation.events.models import record_event

TRIES = 5
NOT_OFFERED = "This device has no such deployment."
# Reports after a success that make it fail late.
LATE_FAILURES = (DeviceDeploymentState.FAILED, DeviceDeploymentState.ROLLED_BACK)
# A device may accept an offer after it was asked to cancel.
BEFORE_ACCEPTANCE = (DeviceDeploymentState.OFFERED, DeviceDeploymentState.CANCELLING)
# What a device may measure, in seconds: fetching the blobs, installing, and the health check.
TIMINGS = ("fetch", "install", "check")
# How many events the late reports of one device deployment may write.
MAX_LATE_EVENTS = 5


@dataclass(frozen=True, slots=True)
class Report:
    """One report. `report` is its number within `attempt`; sizes are bytes; `timings` are seconds by `TIMINGS`."""

    attempt: int
    report: int
    state: str
    reason_code: str = ""
    message: str = ""
    bytes_done: int | None = None
    bytes_total: int | None = None
    timings: dict[str, float] = field(default_factory=dict)


def accept_report(device_id: UUID, deployment_id: UUID, report: Report) -> str:
    """Apply a device's report. Return the state of the device deployment afterwards.

    Raises:
        NotFound: `not_found`: no such deployment was offered to this device.
        BadRequest: `unknown_attempt`.
        Conflict: `old_attempt`, with `attempt`.
        Unavailable: `busy`: other processes changed the row several times.
    """
    for _ in range(TRIES):
        rows = DeviceDeployment.objects.select_related("deployment").defer("deployment__stratum_sizes")
        row = rows.filter(deployment_id=deployment_id, device_id=device_id).first()
        if row is None:
            raise NotFound("not_found", NOT_OFFERED)
        _check_attempt(row, report)
        if report.report == row.report:
            return row.state
        if row.state in FINAL_STATES:
            if _note_late(row, report):
                trip_if_exceeded(deployment_id)
            return row.state
        if report.report >= row.report and may_retry(row, report.state, report.reason_code):
            if _retry(row, report):
                return report.state
            continue
        if report.report < row.report or _apply(row, report):
            if row.state in UNSUCCESSFUL_STATES:
                trip_if_exceeded(deployment_id)
            return row.state
    raise Unavailable("busy", "The deployment is changing right now; send the same report again.")


def _retry(row: DeviceDeployment, report: Report) -> bool:
    """Let the device wait for its next attempt. False if another process won the race."""
    with transaction.atomic():
        changes = {"reason_code": report.reason_code, "message": report.message, **next_attempt(row)}
        if not row.apply_report(DeviceDeploymentState.WAITING, **changes):
            return False
        Command.objects.for_device_deployments([row.pk]).withdraw()
        record_event(
            "deployment.attempt_failed",
            f"Attempt {report.attempt} of the deployment of {row.product} failed ({report.reason_code}). The device"
            " tries again later.",
            actor="device",
            device=row.device_id,
            deployment=row.deployment_id,
            state=report.state,
            reason_code=report.reason_code,
        )
    return True


def _check_attempt(row: DeviceDeployment, report: Report) -> None:
    if report.attempt < row.attempt:
        raise Conflict("old_attempt", f"Attempt {row.attempt} has begun.", attempt=row.attempt, state=row.state)
    if row.offered_at is None:
        raise NotFound("not_found", NOT_OFFERED)
    if report.attempt > row.attempt:
        raise BadRequest("unknown_attempt", f"The current attempt is {row.attempt}.", attempt=row.attempt)


def _apply(row: DeviceDeployment, report: Report) -> bool:
    """Write a new report. False if another process won the race."""
    target = state_after_report(row.state, report.state)
    with transaction.atomic():
        if not row.apply_report(target, **_changes(row, report, target)):
            return False
        if target in FINAL_STATES:
            Command.objects.for_device_deployments([row.pk]).withdraw()
            ended_event(row, target, report.reason_code, "device").save(force_insert=True)
    return True


def _changes(row: DeviceDeployment, report: Report, target: str) -> dict[str, Any]:
    """Return the columns that the report changes, besides the state."""
    now = format_time(timezone.now())
    changes: dict[str, Any] = {
        "report": report.report,
        "reason_code": report.reason_code,
        "message": report.message,
        "timings": {name: seconds for name, seconds in (row.timings | report.timings).items() if name in TIMINGS},
        "reached_at": row.reached_at | dict.fromkeys(stages_passed(row.state, target), now),
    }
    if report.bytes_done is not None:
        changes["bytes_done"] = report.bytes_done
    if report.bytes_total is not None:
        changes["bytes_total"] = report.bytes_total
    if row.state in BEFORE_ACCEPTANCE and not row.previous_manifest_sha256:
        changes["previous_manifest_sha256"] = _running_manifest(row)
    if target == DeviceDeploymentState.SUCCEEDED:
        seconds = Deployment.objects.values_list("observation_seconds", flat=True).get(pk=row.deployment_id)
        changes["observation_ends_at"] = timezone.now() + timedelta(seconds=seconds) if seconds else None
    return changes


def _running_manifest(row: DeviceDeployment) -> str:
    """Return the digest of the product's manifest that the device's last heartbeat reports; empty if there is none."""
    running = Device.objects.values_list("running_bundles", flat=True).get(pk=row.device_id).get(row.product)
    sha256 = running.get("manifest_sha256") if isinstance(running, dict) else None
    return sha256 if isinstance(sha256, str) and len(sha256) == SHA256_LENGTH else ""


def _note_late(row: DeviceDeployment, report: Report) -> bool:
    """Store what a device reports after the end. A report that differs from the one before becomes an event.

    Return whether a success has failed late by this report. A device could alternate forever, so the number of events
    is limited. The database counts them.
    """
    if report.report < row.report:
        return False
    failed_late = 0
    differing = DeviceDeployment.objects.filter(pk=row.pk).exclude(late_state=report.state)
    with transaction.atomic():
        if row.state == DeviceDeploymentState.SUCCEEDED and report.state in LATE_FAILURES:
            reason_code = report.reason_code or report.state
            failure = LateFailure(row.pk, row.deployment_id, row.device_id, row.product, reason_code, report.message)
            failed_late = fail_late([failure], "device")
        if differing.filter(late_events__lt=MAX_LATE_EVENTS).update(
            late_state=report.state, late_events=F("late_events") + 1
        ):
            record_event(
                "deployment.late_report",
                f"After its deployment of {row.product} had ended as {row.state}, the device reported {report.state}.",
                actor="device",
                device=row.device_id,
                deployment=row.deployment_id,
                state=row.state,
                reported=report.state,
                reason_code=report.reason_code,
            )
        else:
            differing.update(late_state=report.state)
    return bool(failed_late)
