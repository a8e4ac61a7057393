"""How the scheduler offers bundles to waiting devices: it queues the command and moves the row to `offered`.

Deployments without limits are offered together, in batches. Each deployment with limits is offered by itself.
"""

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from itertools import groupby
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Exists, F, OuterRef, Q, Subquery
from django.db.models.functions import Now
from django.utils import timezone

from bundles.models import Bundle, BundleState
from deployments.limits import IS_LIMITED, choose, give_way, record_offers
from deployments.models import (
    Deployment,
    DeploymentState,
    DeviceDeployment,
    DeviceDeploymentQuerySet,
    DeviceDeploymentState,
    Hold,
    Phase,
    PhaseState,
)
from deployments.precedence import BY_PRECEDENCE
from deployments.rollback import other_successes
from devices.models import BundleReference, Command, DeployPayload, DeviceState
from foundation.api.times import format_time
from foundation.batches import RUN_SECONDS, run_in_batches, time_boxed

# How many devices are offered to in one transaction.
BATCH = 1000
ONE_ACTIVE = "one_active_per_device_and_product"


def offer() -> int:
    """Queue the command for waiting devices that are free. Return how many.

    Safe to run twice at once: rows that another scheduler has locked are skipped.
    """
    phases = offering_phases()
    if not phases:
        return 0
    try:
        limited = _limited(phases)
        offered = run_in_batches(lambda: _offer_batch(limited), size=BATCH)
        return offered + sum(map(_offer_within_limits, time_boxed(limited, RUN_SECONDS)))
    except IntegrityError as error:
        if ONE_ACTIVE not in str(error):
            raise
        return 0  # another scheduler won the race for a device and product; the next run sees its row


def offering_phases() -> list[int]:
    """Return the phases whose devices are offered a bundle. None while deployments are held.

    A phase that has passed may still have devices that wait, because its success does not need all of them.
    """
    phases = Phase.objects.filter(
        ~Exists(Hold.objects.active()),
        Q(deployment__bundle__state=BundleState.READY) | Q(deployment__reverts__isnull=False),
        deployment__state=DeploymentState.RUNNING,
    ).exclude(state=PhaseState.PENDING)
    return list(phases.values_list("pk", flat=True))


def free_to_offer(phases: Collection[int]) -> DeviceDeploymentQuerySet:
    """Waiting rows of these phases that are due, and come first on a device without an active row of the same product.

    `deployments.precedence` says which comes first. A row is not due before its `retry_at`, or after a newer deployment
    has succeeded on the device. A device that got another bundle meanwhile is not rolled back.

    The conditions are scalar subqueries. They stay index look-ups for each row, even right after a hundred thousand
    rows were added and before PostgreSQL's statistics include them. As EXISTS they become joins that take minutes.
    """
    is_due = Q(retry_at=None) | Q(retry_at__lte=Now())
    same = DeviceDeployment.objects.filter(device=OuterRef("device"), product=OuterRef("product"))
    first = same.waiting().filter(is_due, phase__in=phases).order_by(*BY_PRECEDENCE).values("pk")[:1]
    newest = same.in_states(DeviceDeploymentState.SUCCEEDED).filter(late_at=None, bundle=None)
    free = (
        DeviceDeployment.objects.waiting()
        .filter(is_due, phase__in=phases, device__state=DeviceState.ACCEPTED, pk=Subquery(first))
        .alias(
            active=Subquery(same.active().order_by().values("pk")[:1]),
            succeeded_at=Subquery(newest.order_by("-finished_at").values("created_at")[:1]),
        )
        .filter(Q(succeeded_at=None) | Q(succeeded_at__lt=F("created_at")) | Q(bundle__isnull=False), active=None)
    )
    if not Phase.objects.filter(pk__in=phases, deployment__reverts__isnull=False).exists():
        return free  # the conditions of rollbacks cost time
    is_wanted = Q(bundle__state=BundleState.READY, other__isnull=True)
    return free.alias(other=Subquery(other_successes().values("pk")[:1])).filter(Q(bundle=None) | is_wanted)


def _offer_batch(limited: Collection[UUID]) -> int:
    Hold.objects.lock_out()
    phases, now = offering_phases(), timezone.now()
    free = free_to_offer(phases).exclude(deployment__in=limited)
    rows = _lock(free)
    _offer_rows(rows, now)
    return len(rows)


def _offer_within_limits(deployment_id: UUID) -> int:
    """Offer the bundle of a deployment with limits to as many devices as these allow. Return how many."""
    with transaction.atomic():
        Hold.objects.lock_out()
        phases, now = offering_phases(), timezone.now()
        locked = Deployment.objects.filter(pk=deployment_id).defer("stratum_sizes")
        deployment = locked.select_for_update(skip_locked=True, no_key=True).first()
        if deployment is None:
            return 0
        free = free_to_offer(phases).filter(deployment=deployment_id)
        give_way(deployment, free, now)
        rows = _lock(DeviceDeployment.objects.waiting().filter(pk__in=choose(deployment, free, now)))
        _offer_rows(rows, now)
        record_offers(deployment, len(rows), now)
    return len(rows)


def _limited(phases: Collection[int]) -> list[UUID]:
    """Return the deployments of these phases that have limits."""
    limited = Deployment.objects.running().filter(IS_LIMITED, phases__in=phases)
    return list(limited.order_by("created_at").distinct().values_list("pk", flat=True))


def _lock(rows: DeviceDeploymentQuerySet) -> list[DeviceDeployment]:
    locked = rows.order_by().select_for_update(skip_locked=True, of=("self",))
    return list(locked.only("pk", "deployment", "device", "attempt", "bundle")[:BATCH])


def _offer_rows(rows: list[DeviceDeployment], now: datetime) -> None:
    """Move locked rows to `offered`, and queue their commands."""
    rows.sort(key=lambda row: row.deployment_id)
    deployments = Deployment.objects.select_related("bundle").defer("bundle__manifest")
    deployments_by_id = deployments.in_bulk({row.deployment_id for row in rows})
    commands: list[Command] = []
    for deployment_id, group in groupby(rows, key=lambda row: row.deployment_id):
        commands += _offer(deployments_by_id[deployment_id], list(group), now)
    Command.objects.queue_many(commands)


def _offer(deployment: Deployment, rows: list[DeviceDeployment], now: datetime) -> Iterator[Command]:
    """Move the locked rows of one deployment to `offered`. Yield the commands to be queued for them."""
    deadline_at = now + timedelta(seconds=deployment.deadline_seconds)
    DeviceDeployment.objects.filter(pk__in=[row.pk for row in rows]).transition_to(
        DeviceDeploymentState.OFFERED,
        offered_at=now,
        retry_at=None,
        deadline_at=deadline_at,
        reached_at={DeviceDeploymentState.OFFERED: format_time(now)},
    )
    targets = Bundle.objects.defer("manifest").in_bulk({row.bundle_id for row in rows if row.bundle_id})
    for row in rows:
        bundle = targets[row.bundle_id] if row.bundle_id else deployment.bundle
        reference = BundleReference(bundle.name, bundle.version, bundle.manifest_sha256, bundle.manifest_size)
        payload = DeployPayload(deployment.pk, row.attempt, reference, deadline_at)
        yield Command.build(row.device_id, payload, device_deployment_id=row.pk, attempt=row.attempt)
