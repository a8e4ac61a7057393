"""How the scheduler plans a deployment: every selected device gets a device deployment, or a reason why it has none.

1. Planning goes through the selected devices in the order of their ids, one batch per transaction. Together with the
   new rows, the transaction stores how far it got and how many devices were skipped. So a batch is planned once,
   wherever a scheduler is killed, and by one scheduler, because the transaction holds the deployment's lock.
2. A small selection is looked up by group and id. For a large one, planning goes through the whole table of devices in
   the order of its primary key, and picks those selected. Each device is read once, so the time is linear in the fleet
   whatever the groups look like, and a device that changes its group meanwhile is visited once.
3. The rules apply to a device as it is when its batch is planned. A device that cannot take part gets a row in the
   final state `skipped`, with a `SkipReason`.
4. A device that takes part gets a rank: a hash of its id and the deployment's, so that phases are admitted in a random
   order that can be computed again. Canaries come first. The stratum is a text of the properties named in `strata`.
5. The last batch computes the size of each phase, opens the first one, and moves the deployment to `running`, or to
   `scheduled` until its `start_at`. Nothing is offered before. The devices of a deployment of one phase are admitted
   while they are planned.
6. If no device can take part, the deployment is `finished` with the reason `no_devices`. If the bundle was withdrawn
   meanwhile, it is `cancelled` with the reason `bundle_withdrawn`, and if the database refuses its query, with
   `query_failed`.

Locks are taken in one order: deployment, phase, selection.
"""

import json
import logging
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import DataError, connection, transaction
from django.db.models import Count, Exists, OuterRef
from django.utils import timezone

from bundles.models import BundleState
from deployments.eligibility import Rules, judged_devices
from deployments.models import (
    Deployment,
    DeploymentState,
    DeviceDeployment,
    DeviceDeploymentState,
    Phase,
    PhaseState,
    Selection,
    SkippedCounts,
)
from deployments.models.phase import device_counts
from deployments.phases.strata import MAX_MIXED_STRATA
from deployments.rollback import PLAN_ROLLBACK, REVERTED_STATES
from deployments.states import CANCEL_UNANSWERED, STAGES
from foundation.batches import RUN_SECONDS, run_in_batches
from foundation.errors import BadRequest
from foundation.events.models import record_event
from foundation.scheduler import ACTOR

logger = logging.getLogger(__name__)
# How many devices one transaction goes through. A cancel waits for it.
BATCH = 5000

_INSERT = """
inserted AS (
    INSERT INTO deployments_devicedeployment (
        id, deployment_id, phase_id, admitted_at, rank, stratum, device_id, product, state, attempt, report,
        reason_code, message, bytes_done, bytes_total, timings, reached_at, late_state,
        created_at, state_changed_at, finished_at)
    SELECT gen_random_uuid(), %(deployment)s,
        CASE WHEN reason = '' THEN %(phase)s::bigint END,
        CASE WHEN reason = '' AND %(phase)s::bigint IS NOT NULL THEN %(now)s::timestamptz END,
        -- From 0 to 2^61 - 1, and below 0 for canaries. An eviction adds more than that.
        (hashtextextended(id::text, hashtextextended(%(deployment)s::text, 0)) & 2305843009213693951)
            - CASE WHEN id = ANY(%(canaries)s) THEN 2305843009213693952 ELSE 0 END,
        stratum, id, %(product)s, CASE WHEN reason = '' THEN 'waiting' ELSE 'skipped' END, 1, 0,
        reason, '', 0, 0, '{}', '{}', '',
        %(created_at)s, %(now)s, CASE WHEN reason <> '' THEN %(now)s::timestamptz END
    FROM judged
    ON CONFLICT (deployment_id, device_id) DO NOTHING
)
"""
_COUNTS = """
SELECT (SELECT count(*) FROM visited), (SELECT id FROM visited ORDER BY id DESC LIMIT 1),
    (SELECT coalesce(json_object_agg(reason, devices), '{}')::text
        FROM (SELECT reason, count(*) AS devices FROM judged GROUP BY reason) AS reasons)
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one batch found. `last` is the id of the last device that it visited, `planned` how many take part."""

    visited: int
    last: UUID | None
    planned: int
    skipped: SkippedCounts

    @classmethod
    def read(cls, row: Any) -> "Batch":
        """Return the batch of a row that a planning statement returned. Its counts are by reason; '' takes part."""
        visited, last, counts = row
        skipped = SkippedCounts(json.loads(counts))
        return cls(visited, last, planned=skipped.pop("", 0), skipped=skipped)


def plan() -> int:
    """Plan the deployments in state `planning`, oldest first. Return how many devices were visited."""
    if not Deployment.objects.planning().exists():
        return 0
    return run_in_batches(_plan_next, size=1, seconds=RUN_SECONDS)


def _plan_next() -> int:
    """Plan one batch of the oldest deployment that no other scheduler plans. Return 0 if there is none."""
    # A rollback waits until its deployment has stopped: what another scheduler offers meanwhile has to be rolled back.
    goes_on = DeviceDeployment.objects.in_states(DeviceDeploymentState.WAITING, *STAGES)
    ready = Deployment.objects.planning().exclude(Exists(goes_on.filter(deployment=OuterRef("reverts"))))
    deployments = ready.order_by("created_at").select_related("bundle")
    deployment = deployments.select_for_update(skip_locked=True, of=("self",), no_key=True).first()
    if deployment is None:
        return 0
    if deployment.bundle.state != BundleState.READY and deployment.reverts_id is None:
        _stop(deployment, "bundle_withdrawn", "the bundle was withdrawn while it was being planned")
        return 1
    Phase.objects.filter(deployment=deployment).adopt()
    phases = list(Phase.objects.filter(deployment=deployment))
    try:
        with transaction.atomic():
            batch = _plan_rollback(deployment, phases[0]) if deployment.reverts_id else _plan_batch(deployment, phases)
    except (DataError, BadRequest):
        # Otherwise this deployment, which is the oldest, would keep all others from being planned.
        logger.exception("The query of deployment %s cannot be evaluated.", deployment.pk)
        _stop(deployment, "query_failed", "its query cannot be evaluated")
        return 1
    deployment.add_planned(batch.planned, batch.skipped)
    if batch.last is not None:
        Selection.objects.filter(pk=deployment.pk).update(planned_up_to=batch.last)
    if batch.visited < BATCH:
        _complete(deployment, phases)
    return max(batch.visited, 1)


def _plan_batch(deployment: Deployment, phases: list[Phase]) -> Batch:
    selection = Selection.objects.get(pk=deployment.pk)
    rules = Rules(deployment.bundle, deployment.allow_downgrade, deployment.strata, deployment.created_at)
    judged = judged_devices(selection, rules, BATCH)
    values = judged.values | {
        "deployment": deployment.pk,
        "phase": phases[0].pk if len(phases) == 1 else None,
        "created_at": deployment.created_at,
        "now": timezone.now(),
    }
    with connection.cursor() as cursor:
        cursor.execute(f"WITH {judged.text}, {_INSERT} {_COUNTS}", values)
        return Batch.read(cursor.fetchone())


def _plan_rollback(deployment: Deployment, phase: Phase) -> Batch:
    values: dict[str, Any] = {
        "reverts": deployment.reverts_id,
        "deployment": deployment.pk,
        "phase": phase.pk,
        "product": deployment.bundle.name,
        "bundle": deployment.bundle_id,
        "manifest_sha256": deployment.bundle.manifest_sha256,
        "reverted": list(REVERTED_STATES),
        "unanswered": CANCEL_UNANSWERED,
        "after": Selection.objects.get(pk=deployment.pk).planned_up_to,
        "created_at": deployment.created_at,
        "now": timezone.now(),
        "size": BATCH,
    }
    with connection.cursor() as cursor:
        cursor.execute(PLAN_ROLLBACK, values)
        return Batch.read(cursor.fetchone())


def _complete(deployment: Deployment, phases: list[Phase]) -> None:
    """Let a planned deployment run, or finish it if it has no device."""
    bundle = deployment.bundle
    if deployment.device_count:
        for phase, count in zip(phases, device_counts(phases, deployment.device_count), strict=True):
            Phase.objects.filter(pk=phase.pk).update(device_count=count)
        if deployment.strata:
            sizes = dict(_stratum_sizes(deployment)[: MAX_MIXED_STRATA + 1])
            if len(sizes) <= MAX_MIXED_STRATA:
                Deployment.objects.filter(pk=deployment.pk).update(stratum_sizes=sizes)
        is_early = deployment.start_at is not None and deployment.start_at > timezone.now()
        if is_early:
            deployment.transition_to(DeploymentState.SCHEDULED)
        else:
            phases[0].open(deployment.fill_seconds)
            deployment.transition_to(DeploymentState.RUNNING)
        devices = "1 device" if deployment.device_count == 1 else f"{deployment.device_count} devices"
        within = f" in {len(phases)} phases" if len(phases) > 1 else ""
        kind = "deployment.planned"
        verb = "will be" if is_early else "is being"
        message = f"{bundle} {verb} {'rolled back on' if deployment.reverts_id else 'deployed to'} {devices}{within}."
    else:
        Phase.objects.filter(deployment=deployment).transition_to(PhaseState.SKIPPED)
        deployment.transition_to(DeploymentState.FINISHED, reason_code="no_devices")
        nobody = "no device runs the bundle" if deployment.reverts_id else "the selection is empty"
        why = str(deployment.skipped_counts) or nobody
        kind, message = (
            "deployment.finished",
            f"The deployment of {deployment.title} ended: no device can take part ({why}).",
        )
    record_event(
        kind,
        message,
        actor=ACTOR,
        deployment=deployment.pk,
        bundle=deployment.bundle_id,
        devices=deployment.device_count,
        skipped=deployment.skipped,
        reason_code=deployment.reason_code,
    )


def _stratum_sizes(deployment: Deployment) -> Any:
    rows = DeviceDeployment.objects.filter(deployment=deployment).waiting().order_by()
    return rows.values("stratum").annotate(devices=Count("pk")).values_list("stratum", "devices")


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
