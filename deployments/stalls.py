"""Stalled deployments: those that run, but have made no progress for an hour.

Progress is a device deployment that changed its state, or a phase that opened or soaks. A stalled deployment says what
its devices wait for, in an event and on its page, so that nobody has to find out by hours of watching.
"""

from collections import Counter
from datetime import timedelta

from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from deployments.models import Deployment, DeviceDeployment, Phase
from deployments.waiting import WaitKind, waits_of
from foundation.events.models import record_event
from foundation.scheduler import ACTOR

STALL_TIME = timedelta(hours=1)
# How many device deployments are asked what they wait for.
SAMPLE = 200


def notice_stalls() -> int:
    """Mark deployments that have stalled, and those that have gone on since. Return how many changed."""
    since = timezone.now() - STALL_TIME
    rows = DeviceDeployment.objects.filter(deployment=OuterRef("pk"))
    phases = Phase.objects.filter(deployment=OuterRef("pk"))
    has_progress = (
        Q(created_at__gt=since)
        | Q(start_at__gt=since)
        | Exists(rows.filter(state_changed_at__gt=since))
        | Exists(phases.filter(Q(opened_at__gt=since) | Q(soak_ends_at__gt=since)))
    )
    under_way = Deployment.objects.unfinished()
    resumed = under_way.filter(has_progress, stalled_at__isnull=False).update(stalled_at=None)
    resumed += Deployment.objects.unfinished().exclude(state="running").exclude(stalled_at=None).update(stalled_at=None)
    stalled = under_way.running().filter(~has_progress, Exists(rows.unfinished()), stalled_at=None)
    deployments = list(stalled.select_related("bundle").defer("bundle__manifest"))
    for deployment in deployments:
        _notice(deployment)
    return resumed + len(deployments)


def _notice(deployment: Deployment) -> None:
    Deployment.objects.filter(pk=deployment.pk).update(stalled_at=timezone.now())
    rows = DeviceDeployment.objects.filter(deployment=deployment).unfinished().order_by("-state", "pk")[:SAMPLE]
    counts = Counter(wait.kind for wait in waits_of(rows).values())
    record_event(
        "deployment.stalled",
        f"The deployment of {deployment.title} has made no progress for an hour. Its devices wait: {describe(counts)}.",
        actor=ACTOR,
        deployment=deployment.pk,
        bundle=deployment.bundle_id,
        waiting_for={str(kind): count for kind, count in counts.items()},
    )


def describe(counts: Counter[WaitKind]) -> str:
    """Describe the counts, highest first, such as `the device is offline (3), the health check is running (1)`."""
    return ", ".join(f"{kind.label} ({count})" for kind, count in counts.most_common())
