"""Holding deployments back, until an operator says that what the database remembers is still what they want.

After a restore the database is older than the fleet. What it would order may be a version that was replaced since.
"""

from django.db import transaction
from django.db.models import Exists, F, OuterRef
from django.utils import timezone

from deployments.models import DeviceDeployment, DeviceDeploymentState, Hold
from devices.models import Command, CommandKind
from foundation.errors import Conflict
from foundation.events.models import record_event


def hold(reason: str, *, actor: str) -> Hold:
    """Offer nothing any more, and take back what no device has acknowledged. Harmless when repeated."""
    with transaction.atomic():
        held, is_new = Hold.objects.get_or_create(released_at=None, defaults={"reason": reason})
        take_back()
        if is_new:
            record_event("deployment.held", f"Deployments are held: {reason}", actor=actor)
    return held


def take_back() -> int:
    """Make unacknowledged offers wait again, as a new attempt. Returns how many.

    A heartbeat may acknowledge one meanwhile: only what was then really withdrawn is taken back.
    """
    unheard = Command.objects.open().filter(kind=CommandKind.DEPLOY)
    offered = DeviceDeployment.objects.filter(
        state=DeviceDeploymentState.OFFERED, pk__in=unheard.values("device_deployment_id")
    )
    ids = list(offered.select_for_update().values_list("pk", flat=True))
    unheard.for_device_deployments(ids).withdraw()
    withdrawn = Command.objects.filter(
        kind=CommandKind.DEPLOY,
        withdrawn_at__isnull=False,
        device_deployment_id=OuterRef("pk"),
        attempt=OuterRef("attempt"),
    )
    return DeviceDeployment.objects.filter(Exists(withdrawn), pk__in=ids).update(
        state=DeviceDeploymentState.WAITING,
        attempt=F("attempt") + 1,
        report=0,
        offered_at=None,
        deadline_at=None,
        reached_at={},
        state_changed_at=timezone.now(),
    )


def release(*, actor: str) -> Hold:
    """Let deployments go on. Raises `Conflict` (`not_held`)."""
    with transaction.atomic():
        held = Hold.objects.active().select_for_update().first()
        if held is None:
            raise Conflict("not_held", "Deployments are not held.")
        held.released_at = timezone.now()
        held.save(update_fields=["released_at"])
        record_event("deployment.released", "Deployments go on.", actor=actor)
    return held
