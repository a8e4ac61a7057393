"""How device deployments end without a final report: cancelled, overdue, decommissioned or withdrawn.

Every public function is a task of the scheduler. It works in batches and skips rows that another scheduler has locked.
"""

from collections.abc import Callable
from uuid import UUID

from django.db import transaction
from django.db.models import DurationField, Exists, F, Func, OuterRef, Q, Subquery, Value
from django.db.models.functions import Greatest
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
from deployments.rollback import other_successes
from deployments.states import CANCEL_UNANSWERED, OPEN_PHASE_STATES, STAGES, SkipReason
from devices.models import CancelPayload, Command, DeviceState
from foundation.batches import run_in_batches
from foundation.events.models import Event, record_event
from foundation.scheduler import ACTOR

# How many rows one transaction ends.
BATCH = 1000
# A device that is asked to cancel has this many of its heartbeat intervals to answer, and at least these seconds.
CANCEL_INTERVALS = 2
CANCEL_MINIMUM_SECONDS = 10

Rows = list[DeviceDeployment]


def carry_out_cancels() -> int:
    """End what waits in cancelled deployments and those rolled back, and ask the devices of active rows to stop.

    A deploy command that no device has acknowledged is withdrawn. If a device does not answer, its row ends without it.
    Return how many changed.
    """
    ending = Deployment.objects.unfinished().in_states(DeploymentState.CANCELLED, DeploymentState.ROLLING_BACK)
    ids_by_reason: dict[str, list[UUID]] = {}
    for deployment_id, state, reason_code in ending.values_list("pk", "state", "reason_code"):
        default = "rolled_back" if state == DeploymentState.ROLLING_BACK else "cancelled"
        ids_by_reason.setdefault(reason_code or default, []).append(deployment_id)
    changed = 0
    for reason_code, ids in ids_by_reason.items():
        rows = DeviceDeployment.objects.filter(deployment__in=ids)
        changed += _cancel_waiting(rows, reason_code)
        changed += _in_batches(rows.in_states(*STAGES), _ask_to_cancel)
        changed += _in_batches(_unanswered(rows), _end_unanswered)
    return changed


def enforce_deadlines() -> int:
    """End overdue rows: `timed_out`, or `cancelled` if the device did not answer a cancel. Return how many."""
    return _in_batches(DeviceDeployment.objects.overdue(timezone.now()), _time_out)


def end_decommissioned() -> int:
    """End the device deployments of decommissioned devices. Return how many."""
    decommissioned = DeviceDeployment.objects.unfinished().filter(device__state=DeviceState.DECOMMISSIONED)
    return _in_batches(decommissioned, lambda rows: _end(rows, DeviceDeploymentState.CANCELLED, "decommissioned"))


def end_withdrawn() -> int:
    """End rows that wait for a withdrawn bundle. Devices that were offered it continue. Return how many."""
    withdrawn = DeviceDeployment.objects.waiting().filter(
        Q(bundle__state=BundleState.WITHDRAWN) | Q(bundle=None, deployment__bundle__state=BundleState.WITHDRAWN)
    )
    return _in_batches(withdrawn, lambda rows: _end(rows, DeviceDeploymentState.CANCELLED, "bundle_withdrawn"))


def end_superseded_rollbacks() -> int:
    """End rows that wait to roll back a device that got another bundle of the product meanwhile. Return how many."""
    waiting = DeviceDeployment.objects.waiting().filter(deployment__reverts__isnull=False, deployment__finished_at=None)
    superseded = waiting.alias(other=Subquery(other_successes().values("pk")[:1])).filter(other__isnull=False)
    return _in_batches(superseded, lambda rows: _end(rows, DeviceDeploymentState.CANCELLED, SkipReason.NOT_RUNNING))


def finish() -> int:
    """Finish deployments whose device deployments have all ended, and store their counts. Return how many.

    A running one also has to have completed its phases: the last one may still soak. One that is rolled back finishes
    after its rollback.
    """
    rollback = Deployment.objects.filter(reverts=OuterRef("pk"), finished_at=None)
    unfinished = DeviceDeployment.objects.unfinished().filter(deployment=OuterRef("pk"))
    to_complete = Phase.objects.filter(deployment=OuterRef("pk"), state__in=(PhaseState.PENDING, *OPEN_PHASE_STATES))
    with transaction.atomic():
        started = Deployment.objects.unfinished().exclude(state=DeploymentState.PLANNING)
        ended = started.filter(
            ~Exists(unfinished), ~Exists(rollback), ~Q(state=DeploymentState.RUNNING) | ~Exists(to_complete)
        )
        ended = ended.order_by().select_related("bundle").defer("bundle__manifest")
        locked = [each.pk for each in ended.select_for_update(skip_locked=True, of=("self",))[:BATCH]]
        # Read again: just before the lock, another process may have begun to roll one back.
        deployments = list(ended.filter(pk__in=locked))
        counts = DeviceDeployment.objects.filter(deployment__in=deployments).counts()
        for deployment in deployments:
            _finish(deployment, counts.get(deployment.pk, {}))
    return len(deployments)


def _finish(deployment: Deployment, counts: dict[str, int]) -> None:
    """Finish one locked deployment. A cancelled one stays `cancelled`, with the time of its end."""
    if not deployment.transition_to(DeploymentState.FINISHED, final_counts=counts):
        Deployment.objects.filter(pk=deployment.pk).update(finished_at=timezone.now(), final_counts=counts)
    Phase.objects.filter(deployment=deployment).transition_to(
        PhaseState.SKIPPED, only_from=[PhaseState.PENDING, *OPEN_PHASE_STATES]
    )
    summary = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in sorted(counts.items()))
    record_event(
        "deployment.finished",
        f"The deployment of {deployment.title} has ended: {summary or 'no device took part'}.",
        actor=ACTOR,
        deployment=deployment.pk,
        bundle=deployment.bundle_id,
        counts=counts,
    )


def _in_batches(due: DeviceDeploymentQuerySet, end: Callable[[Rows], None]) -> int:
    """Lock rows that are due and call `end` with them, one batch per transaction. Return how many rows were due."""
    locked = due.order_by().only("state", "attempt", "device", "deployment", "product")
    locked = locked.select_for_update(skip_locked=True, of=("self",))

    def end_batch() -> int:
        rows = list(locked[:BATCH])
        if rows:
            end(rows)
        return len(rows)

    return run_in_batches(end_batch, size=BATCH)


def cancel_unaccepted(rows: DeviceDeploymentQuerySet, reason_code: str, record: Callable[[int], None]) -> int:
    """Cancel those of these rows that wait, or whose offer no device has acknowledged. Return how many.

    `record` is called with the number of rows in each transaction that cancels some.
    """
    # Waiting rows come first: offers that were acknowledged stay, and must not fill the batch.
    due = rows.in_states(DeviceDeploymentState.WAITING, DeviceDeploymentState.OFFERED).order_by("-state")
    locked = due.select_for_update(skip_locked=True, of=("self",)).values_list("pk", flat=True)

    def cancel_batch() -> int:
        batch = DeviceDeployment.objects.filter(pk__in=list(locked[:BATCH]))
        batch.withdraw_unacknowledged_offers()
        cancelled = batch.transition_to(
            DeviceDeploymentState.CANCELLED, only_from=[DeviceDeploymentState.WAITING], reason_code=reason_code
        )
        if cancelled:
            record(cancelled)
        return cancelled

    return run_in_batches(cancel_batch, size=BATCH)


def _cancel_waiting(rows: DeviceDeploymentQuerySet, reason_code: str) -> int:
    """Cancel waiting rows. Their devices were never offered the bundle, so no event is recorded for them."""
    locked = rows.waiting().order_by().select_for_update(skip_locked=True).values_list("pk", flat=True)

    def cancel_batch() -> int:
        ids = list(locked[:BATCH])
        if ids:
            cancelled = DeviceDeployment.objects.filter(pk__in=ids)
            cancelled.transition_to(DeviceDeploymentState.CANCELLED, reason_code=reason_code)
        return len(ids)

    return run_in_batches(cancel_batch, size=BATCH)


def _ask_to_cancel(rows: Rows) -> None:
    ids = [row.pk for row in rows]
    DeviceDeployment.objects.filter(pk__in=ids).transition_to(DeviceDeploymentState.CANCELLING)
    Command.objects.for_device_deployments(ids).withdraw()
    Command.objects.queue_many(
        Command.build(
            row.device_id,
            CancelPayload(row.deployment_id, row.attempt),
            device_deployment_id=row.pk,
            attempt=row.attempt,
        )
        for row in rows
    )


def _unanswered(rows: DeviceDeploymentQuerySet) -> DeviceDeploymentQuerySet:
    """Those of these rows whose devices were asked to cancel and have been silent since."""
    seconds = Greatest(F("device__group__interval_seconds") * CANCEL_INTERVALS, CANCEL_MINIMUM_SECONDS)
    grace = Func(seconds, template="make_interval(secs => %(expressions)s)", output_field=DurationField())
    silent_since = Value(timezone.now()) - grace
    is_silent = Q(device__last_heartbeat_at=None) | Q(device__last_heartbeat_at__lte=silent_since)
    return rows.in_states(DeviceDeploymentState.CANCELLING).filter(is_silent, state_changed_at__lte=silent_since)


def _end_unanswered(rows: Rows) -> None:
    _end(rows, DeviceDeploymentState.CANCELLED, CANCEL_UNANSWERED)


def _time_out(rows: Rows) -> None:
    outcomes = {
        DeviceDeploymentState.CANCELLING: (DeviceDeploymentState.CANCELLED, CANCEL_UNANSWERED),
        DeviceDeploymentState.OFFERED: (DeviceDeploymentState.TIMED_OUT, "never_accepted"),
    }
    default = (DeviceDeploymentState.TIMED_OUT, "deadline")
    for state, reason_code in (*outcomes.values(), default):
        due = [row for row in rows if outcomes.get(DeviceDeploymentState(row.state), default) == (state, reason_code)]
        _end(due, state, reason_code)


def _end(rows: Rows, state: DeviceDeploymentState, reason_code: str) -> None:
    """Move locked rows to a final state, withdraw their commands, and record an event for each."""
    ids: list[UUID] = [row.pk for row in rows]
    if not ids:
        return
    DeviceDeployment.objects.filter(pk__in=ids).transition_to(state, reason_code=reason_code)
    Command.objects.for_device_deployments(ids).withdraw()
    Event.objects.bulk_create(ended_event(row, state, reason_code, ACTOR) for row in rows)


def ended_event(row: DeviceDeployment, state: str, reason_code: str, actor: str) -> Event:
    """Return the unsaved event that a device deployment ended."""
    reason = f" ({reason_code})" if reason_code else ""
    return Event(
        kind="deployment.device_ended",
        message=f"A deployment of {row.product} ended on this device: {state.replace('_', ' ')}{reason}.",
        actor=actor,
        device_id=row.device_id,
        deployment_id=row.deployment_id,
        data={"state": str(state), "reason_code": reason_code, "product": row.product},
    )
