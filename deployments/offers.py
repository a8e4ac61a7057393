"""How the scheduler offers bundles to waiting devices: it queues the command and moves the row to `offered`."""

from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from itertools import groupby

from django.db import IntegrityError
from django.db.models import Exists, F, OuterRef, Q, Subquery
from django.utils import timezone

from bundles.models import Bundle, BundleState
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
from deployments.rollback import other_successes
from devices.models import BundleReference, Command, DeployPayload, DeviceState
from foundation.api.times import format_time
from foundation.batches import run_in_batches

# How many devices are offered to in one transaction.
BATCH = 1000
ONE_ACTIVE = "one_active_per_device_and_product"


def offer() -> int:
    """Queue the command for waiting devices that are free. Return how many.

    Safe to run twice at once: rows that another scheduler has locked are skipped.
    """
    if not offering_phases():
        return 0
    try:
        return run_in_batches(_offer_batch, size=BATCH)
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
    """Waiting rows of these phases whose device has no active or earlier waiting row of the same product.

    Rollbacks come first, then older deployments. A device that got another bundle meanwhile is not rolled back.

    The conditions are scalar subqueries. They stay index look-ups for each row, even right after a hundred thousand
    rows were added and before PostgreSQL's statistics include them. As EXISTS they become joins that take minutes.
    """
    same = DeviceDeployment.objects.filter(device=OuterRef("device"), product=OuterRef("product"))
    by_precedence = (F("bundle").asc(nulls_last=True), "created_at", "pk")
    oldest = same.waiting().filter(phase__in=phases).order_by(*by_precedence).values("pk")[:1]
    return (
        DeviceDeployment.objects.waiting()
        .filter(phase__in=phases, device__state=DeviceState.ACCEPTED, pk=Subquery(oldest))
        .alias(
            active=Subquery(same.active().order_by().values("pk")[:1]),
            other=Subquery(other_successes().values("pk")[:1]),
        )
        .filter(Q(bundle=None) | Q(bundle__state=BundleState.READY, other__isnull=True), active__isnull=True)
    )


def _offer_batch() -> int:
    Hold.objects.lock_out()
    phases, now = offering_phases(), timezone.now()
    free = free_to_offer(phases).order_by().select_for_update(skip_locked=True, of=("self",))
    columns = free.only("pk", "deployment", "device", "attempt", "bundle")
    rows = sorted(columns[:BATCH], key=lambda row: row.deployment_id)
    deployments = Deployment.objects.select_related("bundle").defer("bundle__manifest")
    deployments_by_id = deployments.in_bulk({row.deployment_id for row in rows})
    commands: list[Command] = []
    for deployment_id, group in groupby(rows, key=lambda row: row.deployment_id):
        commands += _offer(deployments_by_id[deployment_id], list(group), now)
    Command.objects.queue_many(commands)
    return len(rows)


def _offer(deployment: Deployment, rows: list[DeviceDeployment], now: datetime) -> Iterator[Command]:
    """Move the locked rows of one deployment to `offered`. Yield the commands to be queued for them."""
    deadline_at = now + timedelta(seconds=deployment.deadline_seconds)
    DeviceDeployment.objects.filter(pk__in=[row.pk for row in rows]).transition_to(
        DeviceDeploymentState.OFFERED,
        offered_at=now,
        deadline_at=deadline_at,
        reached_at={DeviceDeploymentState.OFFERED: format_time(now)},
    )
    targets = Bundle.objects.defer("manifest").in_bulk({row.bundle_id for row in rows if row.bundle_id})
    for row in rows:
        bundle = targets[row.bundle_id] if row.bundle_id else deployment.bundle
        reference = BundleReference(bundle.name, bundle.version, bundle.manifest_sha256, bundle.manifest_size)
        payload = DeployPayload(deployment.pk, row.attempt, reference, deadline_at)
        yield Command.build(row.device_id, payload, device_deployment_id=row.pk, attempt=row.attempt)
