"""How the scheduler plans a deployment: every selected device that can take part gets a device deployment.

1. Planning goes through the selected devices in the order of their ids, one batch per transaction. Together with the
   new rows, the transaction stores how far it got and how many devices were skipped. So a batch is planned once,
   wherever a scheduler is killed, and by one scheduler, because the transaction holds the deployment's lock.
2. A small selection is looked up by group and id. For a large one, planning goes through the whole table of devices in
   the order of its primary key, and picks those selected. Each device is read once, so the time is linear in the fleet
   whatever the groups look like, and a device that changes its group meanwhile is visited once.
3. The rules apply to a device as it is when its batch is planned: it is in a selected group, named, or matches the
   query; it is accepted, has a suitable type, and is not excluded.
4. The last batch opens the phase and moves the deployment to `running`. Nothing is offered before.
5. If no device can take part, the deployment is `finished` with the reason `no_devices`. If the bundle was withdrawn
   meanwhile, it is `cancelled` with the reason `bundle_withdrawn`, and if the database refuses its query, with
   `query_failed`.

Locks are taken in one order: deployment, phase, selection.
"""

import logging
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import DataError, connection, transaction
from django.db.models import F
from django.utils import timezone

from bundles.models import BundleState
from deployments.models import Deployment, DeploymentState, Phase, PhaseState, Selection, SkippedCounts
from devices.queries.filtering import condition_of
from foundation.batches import RUN_SECONDS, run_in_batches
from foundation.errors import BadRequest
from foundation.events.models import record_event
from foundation.scheduler import ACTOR

logger = logging.getLogger(__name__)
# How many devices one transaction goes through. A cancel waits for it.
BATCH = 5000

# Inner queries with LIMIT keep their plan even when statistics are stale.
_SELECTED_GROUP_SIZE = """
SELECT count(*) FROM (SELECT FROM devices_device WHERE group_id = ANY(%(groups)s) LIMIT %(size)s + 1) AS devices
"""
_SMALL_WINDOW = """
    SELECT id, group_id, state, device_type FROM devices_device
    WHERE group_id = ANY(%(groups)s) AND (%(after)s::uuid IS NULL OR id > %(after)s)
    UNION
    SELECT id, group_id, state, device_type FROM devices_device
    WHERE id = ANY(%(devices)s) AND (%(after)s::uuid IS NULL OR id > %(after)s)
    ORDER BY id LIMIT %(size)s
"""
_LARGE_WINDOW = """
    SELECT id, group_id, state, device_type FROM devices_device
    WHERE id > coalesce(%(after)s::uuid, '00000000-0000-0000-0000-000000000000')
    ORDER BY id LIMIT %(size)s
"""
_JOIN = "JOIN devices_device AS device ON device.id = visited.id"
# A decommissioned device counts as skipped only if the operator named it.
_PLAN = """
WITH visited AS MATERIALIZED ({window}),
selected AS (
    SELECT visited.id, visited.state = 'accepted' AS is_accepted,
        cardinality(%(device_types)s::text[]) = 0 OR visited.device_type = ANY(%(device_types)s) AS is_suitable,
        ({exclude}) IS TRUE AS is_excluded
    FROM visited {join}
    WHERE ((visited.group_id = ANY(%(groups)s) OR ({query}) IS TRUE) AND visited.state <> 'decommissioned')
       OR visited.id = ANY(%(devices)s)
),
planned AS (
    INSERT INTO deployments_devicedeployment (
        id, deployment_id, phase_id, device_id, product, state, attempt, report, reason_code, message,
        bytes_done, bytes_total, timings, reached_at, late_state, created_at, state_changed_at)
    SELECT gen_random_uuid(), %(deployment)s, %(phase)s, id, %(product)s, 'waiting', 1, 0, '', '',
        0, 0, '{{}}', '{{}}', '', %(created_at)s, %(now)s
    FROM selected WHERE is_accepted AND is_suitable AND NOT is_excluded
    ON CONFLICT (deployment_id, device_id) DO NOTHING
    RETURNING 1
)
SELECT (SELECT count(*) FROM visited), (SELECT id FROM visited ORDER BY id DESC LIMIT 1),
    (SELECT count(*) FROM planned),
    count(*) FILTER (WHERE NOT is_accepted AND NOT is_excluded),
    count(*) FILTER (WHERE is_accepted AND NOT is_suitable AND NOT is_excluded),
    count(*) FILTER (WHERE is_excluded)
FROM selected
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one batch did. `last` is the id of the last device that it visited."""

    visited: int
    last: UUID | None
    planned: int
    skipped: SkippedCounts


def plan() -> int:
    """Plan the deployments in state `planning`, oldest first. Return how many devices were visited."""
    if not Deployment.objects.planning().exists():
        return 0
    return run_in_batches(_plan_next, size=1, seconds=RUN_SECONDS)


def _plan_next() -> int:
    """Plan one batch of the oldest deployment that no other scheduler plans. Return 0 if there is none."""
    deployments = (
        Deployment.objects.planning().order_by("created_at").select_related("bundle").defer("bundle__manifest")
    )
    deployment = deployments.select_for_update(skip_locked=True, of=("self",), no_key=True).first()
    if deployment is None:
        return 0
    if deployment.bundle.state != BundleState.READY:
        _stop(deployment, "bundle_withdrawn", "the bundle was withdrawn while it was being planned")
        return 1
    phase = Phase.objects.get(deployment=deployment)
    try:
        with transaction.atomic():
            batch = _plan_batch(deployment, phase)
    except (DataError, BadRequest):
        # Otherwise this deployment, which is the oldest, would keep all others from being planned.
        logger.exception("The query of deployment %s cannot be evaluated.", deployment.pk)
        _stop(deployment, "query_failed", "its query cannot be evaluated")
        return 1
    phase.device_count += batch.planned
    Phase.objects.filter(pk=phase.pk).update(device_count=F("device_count") + batch.planned)
    deployment.add_planned(batch.skipped)
    if batch.last is not None:
        Selection.objects.filter(pk=deployment.pk).update(planned_up_to=batch.last)
    if batch.visited < BATCH:
        _complete(deployment, phase)
    return max(batch.visited, 1)


def _plan_batch(deployment: Deployment, phase: Phase) -> Batch:
    selection = Selection.objects.get(pk=deployment.pk)
    values: dict[str, Any] = {
        "deployment": deployment.pk,
        "phase": phase.pk,
        "product": deployment.bundle.name,
        "groups": selection.groups,
        "devices": selection.devices,
        "device_types": deployment.bundle.device_types,
        "after": selection.planned_up_to,
        "created_at": deployment.created_at,
        "now": timezone.now(),
        "size": BATCH,
    }
    query, query_values = _condition(selection.query, "query", deployment)
    exclude, exclude_values = _condition(selection.exclude, "exclude", deployment)
    values |= query_values | exclude_values
    with connection.cursor() as cursor:
        cursor.execute(_SELECTED_GROUP_SIZE, values)
        is_small = not selection.query and cursor.fetchone()[0] <= BATCH
        window = _SMALL_WINDOW if is_small else _LARGE_WINDOW
        join = _JOIN if selection.query or selection.exclude else ""
        cursor.execute(_PLAN.format(window=window, join=join, query=query, exclude=exclude), values)
        visited, last, planned, *skipped = cursor.fetchone()
    return Batch(visited, last, planned, SkippedCounts(*skipped))


def _condition(query: str, prefix: str, deployment: Deployment) -> tuple[str, dict[str, Any]]:
    """Return the SQL of a query and its values; `false` if it is empty.

    Its times count from the start of the deployment, so that all batches agree.
    """
    if not query:
        return "false", {}
    text, values = condition_of(query, deployment.created_at).sql().named(prefix)
    return text.replace("{device}", "device"), values


def _complete(deployment: Deployment, phase: Phase) -> None:
    """Let a planned deployment run, or finish it if it has no device."""
    bundle = deployment.bundle
    if phase.device_count:
        phase.transition_to(PhaseState.OPEN)
        deployment.transition_to(DeploymentState.RUNNING)
        devices = "1 device" if phase.device_count == 1 else f"{phase.device_count} devices"
        kind, message = "deployment.planned", f"{bundle} is being deployed to {devices}."
    else:
        phase.transition_to(PhaseState.FINISHED)
        deployment.transition_to(DeploymentState.FINISHED, reason_code="no_devices")
        why = str(deployment.skipped_counts) or "the selection is empty"
        kind, message = "deployment.finished", f"The deployment of {bundle} ended: no device can take part ({why})."
    record_event(
        kind,
        message,
        actor=ACTOR,
        deployment=deployment.pk,
        bundle=deployment.bundle_id,
        devices=phase.device_count,
        skipped=deployment.skipped,
        reason_code=deployment.reason_code,
    )


def _stop(deployment: Deployment, reason_code: str, why: str) -> None:
    """Cancel a deployment that cannot be planned to its end."""
    deployment.transition_to(DeploymentState.CANCELLED, reason_code=reason_code)
    record_event(
        "deployment.cancelled",
        f"The deployment of {deployment.bundle} was cancelled: {why}.",
        actor=ACTOR,
        deployment=deployment.pk,
        bundle=deployment.bundle_id,
        reason_code=deployment.reason_code,
    )
