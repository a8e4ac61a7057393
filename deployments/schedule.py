"""When deployments start and end: `start_at` and `expires_at`.

A deployment is planned when it is requested. It is then `scheduled` until `start_at`, and nothing is offered.

At `expires_at`, device deployments that were not accepted end as `cancelled` with the reason `expired`: their offers
are withdrawn, and their devices count as lost in the phase. Devices that have accepted the bundle finish. Then the
deployment ends as `finished`, with the outcome `expired` if a device deployment has expired.
"""

from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.utils import timezone

from deployments.models import Deployment, DeploymentState, DeviceDeployment, Phase
from deployments.termination import cancel_unaccepted
from foundation.batches import RUN_SECONDS, time_boxed
from foundation.errors import BadRequest
from foundation.events.models import record_event
from foundation.scheduler import ACTOR

# The reason code of an expired deployment, and of its device deployments that were not accepted.
EXPIRED = "expired"
EXPIRING_STATES = (DeploymentState.SCHEDULED, DeploymentState.RUNNING, DeploymentState.PAUSED)


def check_times(start_at: datetime | None, expires_at: datetime | None) -> None:
    """Raise `BadRequest` (`bad_times`) if the deployment would expire before it can offer anything."""
    begins_at = max(filter(None, (timezone.now(), start_at)))
    if expires_at is not None and expires_at <= begins_at:
        raise BadRequest("bad_times", "The deployment would expire before it starts: choose a later `expires_at`.")


def start_scheduled() -> int:
    """Start the deployments whose `start_at` has passed. Return how many were started."""
    due = Deployment.objects.in_states(DeploymentState.SCHEDULED).filter(finished_at=None)
    due = due.exclude(start_at__gt=timezone.now())
    return sum(_start(deployment_id) for deployment_id in time_boxed(due.values_list("pk", flat=True), RUN_SECONDS))


def _start(deployment_id: UUID) -> bool:
    with transaction.atomic():
        locked = Deployment.objects.select_related("bundle").defer("bundle__manifest")
        deployment = locked.select_for_update(of=("self",), no_key=True).get(pk=deployment_id)
        if not deployment.transition_to(DeploymentState.RUNNING, only_from=[DeploymentState.SCHEDULED]):
            return False
        Phase.objects.filter(deployment=deployment).order_by("number")[0].open(deployment.fill_seconds)
        record_event(
            "deployment.began",
            f"The scheduled deployment of {deployment.bundle} has begun.",
            actor=ACTOR,
            deployment=deployment.pk,
            bundle=deployment.bundle_id,
        )
    return True


def expire() -> int:
    """End the device deployments of expired deployments that were not accepted. Return how many were ended."""
    expired = Deployment.objects.in_states(*EXPIRING_STATES).filter(finished_at=None, expires_at__lte=timezone.now())
    ids = list(expired.values_list("pk", flat=True))
    return sum(map(_expire, time_boxed(ids, RUN_SECONDS)))


def _expire(deployment_id: UUID) -> int:
    rows = DeviceDeployment.objects.filter(deployment=deployment_id)
    return cancel_unaccepted(rows, EXPIRED, lambda count: _record(deployment_id, count))


def _record(deployment_id: UUID, count: int) -> None:
    Deployment.objects.filter(pk=deployment_id).update(reason_code=EXPIRED)
    deployment = Deployment.objects.select_related("bundle").defer("bundle__manifest").get(pk=deployment_id)
    devices = "1 device" if count == 1 else f"{count} devices"
    record_event(
        "deployment.expired",
        f"The deployment of {deployment.title} expired before {devices} had accepted it.",
        actor=ACTOR,
        deployment=deployment.pk,
        bundle=deployment.bundle_id,
        devices=count,
    )
