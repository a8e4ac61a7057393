"""Precedence: which of several deployments of a product a device gets.

The database allows one active device deployment per device and product. If several wait, the one to offer next is
chosen in this order: rollbacks first, then the highest `priority`, then the newest deployment.

A newer deployment of the same or a higher priority supersedes an older one on the devices that both select: the older
one's device deployments end as `cancelled` with the reason `superseded`, unless the device has already acknowledged
the offer. After a newer deployment has succeeded on a device, no older one is offered there, whatever its priority.

A rollback has the age of the deployment that it reverts, so it is superseded by a fix that was started after that
deployment. A rollback supersedes all older deployments, whatever their priority.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Exists, F, OuterRef, Q

from deployments.models import Deployment, DeploymentState, DeviceDeployment, DeviceDeploymentState
from deployments.models.deployment import DeploymentQuerySet
from deployments.states import UNFINISHED_STATES
from deployments.termination import cancel_unaccepted
from foundation.batches import RUN_SECONDS, time_boxed
from foundation.events.models import record_event
from foundation.scheduler import ACTOR

# The order of waiting device deployments of one device and product. `bundle` is set only for rollbacks.
BY_PRECEDENCE = (F("bundle").asc(nulls_last=True), "-deployment__priority", "-created_at", "pk")


@dataclass(frozen=True, slots=True)
class Standing:
    """What precedence depends on. `since` is when the deployment, or the one that it reverts, was created."""

    id: UUID
    product: str
    state: str
    priority: int
    is_rollback: bool
    since: datetime

    def is_newer_than(self, other: "Standing") -> bool:
        return (self.since, self.is_rollback) > (other.since, other.is_rollback)

    def outranks(self, other: "Standing") -> bool:
        """Return whether this deployment supersedes the other one on the devices that both select."""
        has_priority = self.priority >= other.priority or self.is_rollback or other.is_rollback
        return self.product == other.product and self.is_newer_than(other) and has_priority


def supersede() -> int:
    """End the device deployments that a newer deployment supersedes. Return how many were ended."""
    unfinished = _standings(Deployment.objects.in_states(DeploymentState.RUNNING, DeploymentState.PAUSED))
    if not unfinished:
        return 0
    others = _standings(
        Deployment.objects.exclude(state=DeploymentState.PLANNING).filter(
            bundle__name__in={each.product for each in unfinished},
            created_at__gt=min(each.since for each in unfinished),
        )
    )
    superseded = 0
    for older in time_boxed(unfinished, RUN_SECONDS):
        newer = [each for each in others if each.product == older.product and each.is_newer_than(older)]
        if newer:
            superseded += _supersede(older, newer)
    return superseded


def _standings(deployments: DeploymentQuerySet) -> list[Standing]:
    columns = ("pk", "bundle__name", "state", "priority", "reverts_id", "created_at", "reverts__created_at")
    return [
        Standing(deployment_id, product, state, priority, reverts_id is not None, reverted_at or created_at)
        for deployment_id, product, state, priority, reverts_id, created_at, reverted_at in deployments.order_by()
        .filter(Q(finished_at=None) | Q(device_count__gt=0))
        .values_list(*columns)
    ]


def _supersede(older: Standing, newer: Collection[Standing]) -> int:
    """End device deployments of `older` that one of the `newer` deployments supersedes. Return how many."""
    outranking = [
        each.id
        for each in newer
        if each.outranks(older) and each.state in (DeploymentState.RUNNING, DeploymentState.PAUSED)
    ]
    same_device = DeviceDeployment.objects.filter(device=OuterRef("device"))
    under_way = same_device.filter(deployment__in=outranking, state__in=UNFINISHED_STATES)
    installed = same_device.filter(
        deployment__in=[each.id for each in newer], state=DeviceDeploymentState.SUCCEEDED, late_at=None
    )
    superseded = DeviceDeployment.objects.filter(Exists(under_way) | Exists(installed), deployment=older.id)
    return cancel_unaccepted(superseded, "superseded", lambda count: _record(older, count))


def _record(older: Standing, count: int) -> None:
    Deployment.objects.filter(pk=older.id).update(superseded=F("superseded") + count)
    deployment = Deployment.objects.select_related("bundle").defer("bundle__manifest").get(pk=older.id)
    devices = "1 device" if count == 1 else f"{count} devices"
    record_event(
        "deployment.superseded",
        f"A newer deployment supersedes the deployment of {deployment.title} on {devices}.",
        actor=ACTOR,
        deployment=deployment.pk,
        bundle=deployment.bundle_id,
        devices=count,
    )
