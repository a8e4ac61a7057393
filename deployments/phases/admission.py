"""Admission: which devices a phase admits, and which lose their place again.

A phase admits devices in the order of their rank until it is full. It admits only devices that were heard from recently
and are not cooling down (`deployments.retries`), and all canaries. The last phase admits every device. The caller holds
the lock of the deployment, so two schedulers never admit to the same phase at once.
"""

from datetime import timedelta
from typing import Any

from django.db import connection
from django.db.models import Count, F
from django.utils import timezone

from deployments.models import Deployment, DeviceDeployment, Phase
from deployments.phases.thresholds import quotas
from deployments.retries import IS_COOLING_DOWN

# How many devices one transaction admits.
BATCH = 5000
# How recently a device must have been heard of, besides three of its intervals.
REACHABLE_SECONDS = 15 * 60
# The rank of an evicted device is this and the time of the eviction: greater than the rank of any other device.
_EVICTED_RANK = 2**61

# The devices are chosen once, before the update. As an inner query they could be chosen again for each updated row, and
# then exceed the limit.
_ADMIT = f"""
WITH chosen AS MATERIALIZED (
    SELECT candidate.id FROM deployments_devicedeployment AS candidate
    JOIN devices_device AS device ON device.id = candidate.device_id
    JOIN devices_group AS its_group ON its_group.id = device.group_id
    WHERE candidate.deployment_id = %(deployment)s AND candidate.state = 'waiting' AND candidate.phase_id IS NULL
      AND (%(stratum)s::text IS NULL OR candidate.stratum = %(stratum)s)
      AND (%(everybody)s OR candidate.rank < 0 OR (
          device.last_heartbeat_at
              >= %(now)s - make_interval(secs => greatest(3 * its_group.interval_seconds, %(reachable)s))
          AND NOT {IS_COOLING_DOWN}))
    ORDER BY candidate.rank, candidate.id LIMIT %(size)s
    FOR UPDATE OF candidate SKIP LOCKED
)
UPDATE deployments_devicedeployment AS admitted SET phase_id = %(phase)s, admitted_at = %(now)s
FROM chosen WHERE admitted.id = chosen.id
"""  # noqa: S608 — the fragment is a constant.


def admit(deployment: Deployment, phase: Phase, missing: int) -> int:
    """Admit up to `missing` devices, at most one batch. The last phase ignores `missing`. Return how many."""
    if phase.is_last:
        return _admit(deployment, phase, BATCH)
    if missing <= 0:
        return 0
    size = min(missing, BATCH)
    if not deployment.stratum_sizes:
        return _admit(deployment, phase, size)
    admitted = 0
    for stratum, wanted in _missing_by_stratum(deployment, phase).items():
        admitted += _admit(deployment, phase, min(wanted, size - admitted), stratum)
    # Devices of other strata take the places of those that are not reachable.
    return admitted + _admit(deployment, phase, size - admitted)


def _admit(deployment: Deployment, phase: Phase, size: int, stratum: str | None = None) -> int:
    if size <= 0:
        return 0
    values: dict[str, Any] = {
        "deployment": deployment.pk,
        "phase": phase.pk,
        "stratum": stratum,
        "everybody": phase.is_last,
        "reachable": REACHABLE_SECONDS,
        "now": timezone.now(),
        "size": size,
    }
    with connection.cursor() as cursor:
        cursor.execute(_ADMIT, values)
        return int(cursor.rowcount)


def _missing_by_stratum(deployment: Deployment, phase: Phase) -> dict[str, int]:
    """Return how many devices of each stratum the deployment lacks at the end of this phase."""
    wanted = quotas(deployment.stratum_sizes, phase.device_count)
    admitted = DeviceDeployment.objects.filter(deployment=deployment, phase__isnull=False).order_by()
    counts = dict(admitted.values_list("stratum").annotate(Count("pk")))
    missing = {stratum: count - counts.get(stratum, 0) for stratum, count in wanted.items()}
    return {stratum: count for stratum, count in missing.items() if count > 0}


def evict(deployment: Deployment, phase: Phase) -> int:
    """Take back offers that no device accepted in time, and give their places to others. Return how many."""
    now = timezone.now()
    latest = now - timedelta(seconds=deployment.accept_seconds)
    silent = DeviceDeployment.objects.filter(phase=phase, offered_at__lte=latest)
    rank = _EVICTED_RANK + int(now.timestamp())
    evicted = silent.withdraw_offers(phase=None, admitted_at=None, rank=rank)
    if evicted:
        Phase.objects.filter(pk=phase.pk).update(evicted=F("evicted") + evicted)
    return evicted
