"""How far a deployment is: its counts, its outcome, and a bar with one segment for each result."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from django.db.models import Count, OuterRef, Subquery
from django.db.models.functions import Coalesce

from deployments.models import Deployment, DeploymentState, DeviceDeployment
from deployments.models.device_deployment_queryset import StateCounts
from deployments.schedule import EXPIRED
from deployments.states import (
    FAILED_LATE,
    FINAL_STATES,
    UNSUCCESSFUL_STATES,
    DeploymentOutcome,
    DeviceDeploymentState,
    SkipReason,
)

# From left to right: succeeded, failed, in progress, waiting, cancelled.
ORDER = (
    DeviceDeploymentState.SUCCEEDED,
    FAILED_LATE,
    *UNSUCCESSFUL_STATES,
    DeviceDeploymentState.CHECKING,
    DeviceDeploymentState.INSTALLING,
    DeviceDeploymentState.DOWNLOADING,
    DeviceDeploymentState.ACCEPTED,
    DeviceDeploymentState.OFFERED,
    DeviceDeploymentState.CANCELLING,
    DeviceDeploymentState.WAITING,
    DeviceDeploymentState.CANCELLED,
)
# Why a device has nothing to do.
DONE_REASONS = (SkipReason.ALREADY_RUNNING, SkipReason.NOT_RUNNING)
UNSUCCESSFUL_RESULTS = (FAILED_LATE, *UNSUCCESSFUL_STATES)


def counts_of(deployments: Iterable[Deployment]) -> dict[UUID, StateCounts]:
    """Return how many device deployments have which result, for each deployment.

    One query for all that have not finished. A success that failed late counts as `failed_late`.
    """
    deployments = list(deployments)
    unfinished = [deployment.pk for deployment in deployments if deployment.finished_at is None]
    live = DeviceDeployment.objects.filter(deployment__in=unfinished).counts() if unfinished else {}
    return {
        deployment.pk: _with_late_failures(
            live.get(deployment.pk, {}) if deployment.finished_at is None else deployment.final_counts,
            deployment.late_failures,
        )
        for deployment in deployments
    }


def _with_late_failures(counts: StateCounts, late_failures: int) -> StateCounts:
    if not late_failures:
        return counts
    succeeded = max(0, counts.get(DeviceDeploymentState.SUCCEEDED, 0) - late_failures)
    return counts | {DeviceDeploymentState.SUCCEEDED.value: succeeded, FAILED_LATE: late_failures}


def refresh_observation(deployments: Iterable[Deployment]) -> dict[UUID, int]:
    """Return how many successes are under observation, and refresh `late_failures`, for each deployment.

    One statement reads both: otherwise a success that fails late in between would be missing in both numbers.
    """
    by_id = {deployment.pk: deployment for deployment in deployments}
    if not by_id:
        return {}
    observed = DeviceDeployment.objects.observed().filter(deployment=OuterRef("pk")).order_by()
    count = Subquery(observed.values("deployment").annotate(count=Count("pk")).values("count"))
    rows = Deployment.objects.filter(pk__in=by_id).order_by().values_list("pk", "late_failures", Coalesce(count, 0))
    for deployment_id, late_failures, _ in rows:
        by_id[deployment_id].late_failures = late_failures
    return {deployment_id: observing for deployment_id, _, observing in rows}


def outcome_of(deployment: Deployment, counts: StateCounts) -> str:
    """Return the `DeploymentOutcome`, or an empty string while the deployment has not ended.

    A deployment without devices has succeeded if all selected ones run the bundle already. A rollback without devices
    has succeeded if no device runs the bundle any more.
    """
    if deployment.finished_at is None:
        return ""
    if deployment.state == DeploymentState.CANCELLED:
        return DeploymentOutcome.CANCELLED
    if deployment.rolled_back_at is not None:
        return DeploymentOutcome.ROLLED_BACK
    if deployment.reason_code == EXPIRED:
        return DeploymentOutcome.EXPIRED
    if _has_nothing_to_do(deployment):
        return DeploymentOutcome.SUCCEEDED
    total = sum(counts.values())
    unsuccessful = any(counts.get(result) for result in UNSUCCESSFUL_RESULTS)
    if deployment.superseded and not unsuccessful:
        return DeploymentOutcome.SUPERSEDED
    is_success = total > 0 and counts.get(DeviceDeploymentState.SUCCEEDED, 0) == total
    return DeploymentOutcome.SUCCEEDED if is_success else DeploymentOutcome.INCOMPLETE


def _has_nothing_to_do(deployment: Deployment) -> bool:
    """Return whether all selected devices run what they should already."""
    skipped = set(deployment.skipped_counts)
    is_explained = bool(skipped) or deployment.reverts_id is not None
    return not deployment.device_count and is_explained and skipped <= {*DONE_REASONS}


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment of the bar. `percent` is its share; `style` is the name of its colour."""

    state: str
    count: int
    percent: float
    style: str


def segments(counts: Mapping[str, int]) -> list[Segment]:
    """Return the segments of the bar, without empty ones."""
    total = sum(counts.values()) or 1
    return [
        Segment(result.replace("_", " "), counts[result], round(100 * counts[result] / total, 1), style_of(result))
        for result in ORDER
        if counts.get(result)
    ]


def style_of(result: str) -> str:
    if result == DeviceDeploymentState.SUCCEEDED:
        return "good"
    if result in UNSUCCESSFUL_RESULTS:
        return "bad"
    return "dim" if result in FINAL_STATES or result == DeviceDeploymentState.WAITING else "busy"
