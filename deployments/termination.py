"""How ways through deployments end without the device's last word: cancelled, overdue, or without their device.

Every function is a step of the scheduler. It works in batches and skips rows that another scheduler holds.
"""

import time
from collections.abc import Callable

from django.db import transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from bundles.models import BundleState
from deployments.models import (
    Deployment,
    DeploymentState,
    DeviceDeployment,
    DeviceDeploymentQuerySet,
    DeviceDeploymentState,
    Phase,
    PhaseState,
)
from devices.models import CancelPayload, Command, DeviceState
from foundation.events.models import Event, record_event
from foundation.scheduler import ACTOR

BATCH = 1000
RUN_SECONDS = 5.0


def carry_out_cancels() -> int:
    """Ask the devices of cancelled deployments to stop. A command that no device acknowledged is taken back."""
    return _in_batches(
        DeviceDeployment.objects.unfinished()
        .filter(deployment__state=DeploymentState.CANCELLED)
        .exclude(state=DeviceDeploymentState.CANCELLING),
        _cancel,
    )


def enforce_deadlines() -> int:
    """End what is overdue: `timed_out`, or `cancelled` where a cancel was never answered."""
    return _in_batches(DeviceDeployment.objects.overdue(timezone.now()), _time_out)


def end_decommissioned() -> int:
    """End the ways of devices that were taken out of service."""
    gone = DeviceDeployment.objects.unfinished().filter(device__state=DeviceState.DECOMMISSIONED)
    return _in_batches(gone, lambda rows: _end(rows, DeviceDeploymentState.CANCELLED, "decommissioned"))


def end_withdrawn() -> int:
    """End the waiting for bundles that were withdrawn. Devices that were told already go on."""
    vain = DeviceDeployment.objects.waiting().filter(deployment__bundle__state=BundleState.WITHDRAWN)
    return _in_batches(vain, lambda rows: _end(rows, DeviceDeploymentState.CANCELLED, "bundle_withdrawn"))


def finish() -> int:
    """Finish deployments all of whose devices have ended; their counts are kept."""
    unfinished = DeviceDeployment.objects.unfinished().filter(deployment=OuterRef("pk"))
    with transaction.atomic():
        due = Deployment.objects.unfinished().filter(~Exists(unfinished)).order_by()
        due = due.select_related("bundle").defer("bundle__manifest")
        deployments = list(due.select_for_update(skip_locked=True, of=("self",))[:BATCH])
        counts = DeviceDeployment.objects.filter(deployment__in=deployments).counts()
        for deployment in deployments:
            _finish(deployment, counts.get(deployment.pk, {}))
    return len(deployments)


def _finish(deployment: Deployment, counts: dict[str, int]) -> None:
    now = timezone.now()
    Deployment.objects.filter(pk=deployment.pk).update(finished_at=now, final_counts=counts)
    Deployment.objects.running().filter(pk=deployment.pk).update(state=DeploymentState.FINISHED)
    Phase.objects.filter(deployment=deployment).update(state=PhaseState.FINISHED, finished_at=now)
    ended = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in sorted(counts.items()))
    record_event(
        "deployment.finished",
        f"The deployment of {deployment.bundle} has ended: {ended}.",
        actor=ACTOR,
        deployment=deployment.pk,
        bundle=deployment.bundle_id,
        counts=counts,
    )


def _in_batches(due: DeviceDeploymentQuerySet, end: Callable[[list[DeviceDeployment]], None]) -> int:
    """Hold rows that are due and end them, a batch a transaction, until none are left or other steps wait too long."""
    ends_at = time.monotonic() + RUN_SECONDS
    due = due.order_by().only("state", "attempt", "device", "deployment", "product")
    ended = 0
    while True:
        with transaction.atomic():
            rows = list(due.select_for_update(skip_locked=True, of=("self",))[:BATCH])
            if rows:
                end(rows)
        ended += len(rows)
        if len(rows) < BATCH or time.monotonic() > ends_at:
            return ended


def _cancel(rows: list[DeviceDeployment]) -> None:
    waiting = [row for row in rows if row.state == DeviceDeploymentState.WAITING]
    told = [row for row in rows if row.state != DeviceDeploymentState.WAITING]
    if waiting:
        _end(waiting, DeviceDeploymentState.CANCELLED, "cancelled")
    ids = [row.pk for row in told]
    DeviceDeployment.objects.filter(pk__in=ids).move_to(DeviceDeploymentState.CANCELLING)
    Command.objects.for_device_deployments(ids).withdraw()
    Command.objects.queue_many(
        Command.build(
            row.device_id,
            CancelPayload(row.deployment_id, row.attempt),
            device_deployment_id=row.pk,
            attempt=row.attempt,
        )
        for row in told
    )


def _time_out(rows: list[DeviceDeployment]) -> None:
    cancelling = [row for row in rows if row.state == DeviceDeploymentState.CANCELLING]
    offered = [row for row in rows if row.state == DeviceDeploymentState.OFFERED]
    others = [row for row in rows if row.state not in {DeviceDeploymentState.CANCELLING, DeviceDeploymentState.OFFERED}]
    _end(cancelling, DeviceDeploymentState.CANCELLED, "cancel_unanswered")
    _end(offered, DeviceDeploymentState.TIMED_OUT, "never_accepted")
    _end(others, DeviceDeploymentState.TIMED_OUT, "deadline")


def _end(rows: list[DeviceDeployment], state: str, reason_code: str) -> None:
    """Give held rows their last state; their devices are not asked for anything any more."""
    ids = [row.pk for row in rows]
    DeviceDeployment.objects.filter(pk__in=ids).move_to(state, reason_code=reason_code)
    Command.objects.for_device_deployments(ids).withdraw()
    Event.objects.bulk_create(ended_event(row, state, reason_code, ACTOR) for row in rows)


def ended_event(row: DeviceDeployment, state: str, reason_code: str, actor: str) -> Event:
    """The event, not saved yet, that says how one device's way ended."""
    reason = f" ({reason_code})" if reason_code else ""
    return Event(
        kind="deployment.device_ended",
        message=f"A deployment of {row.product} ended on this device: {state.replace('_', ' ')}{reason}.",
        actor=actor,
        device_id=row.device_id,
        deployment_id=row.deployment_id,
        data={"state": state, "reason_code": reason_code, "product": row.product},
    )
