"""The observation after a success: a success is provisional until its observation time ends.

A device deployment that succeeded fails late if one of these happens within `observation_seconds`:

- the device reports that it rolled the release back or stopped it (`deployments.reports`);
- the bundle is unhealthy for longer than `unhealthy_seconds`;
- the device runs another bundle of the product, or none.

The state stays `succeeded`, because the installation did succeed. Everything that counts successes counts it as failed.

The scheduler reads what the devices reported last. One heartbeat only makes the row suspect, because it may be older
than the success: an agent repeats a heartbeat whose response was lost. The row fails when a later heartbeat confirms
the suspicion. While a newer deployment of the product is in progress on the device, nothing is concluded. The
observation of a device ends early if that deployment succeeds, or if the device is decommissioned.
"""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import F, TextChoices
from django.utils import timezone

from deployments.models import Deployment, DeviceDeployment, DeviceDeploymentState
from deployments.states import ACTIVE_STATES
from devices.models.health import complaints
from foundation.batches import run_in_batches
from foundation.events.models import Event
from foundation.scheduler import ACTOR

BATCH = 1000
MAX_MESSAGE_LENGTH = 1000


class LateReason(TextChoices):
    """Why a device deployment failed late. Reports name further reasons, such as `crash_loop`."""

    UNHEALTHY = "unhealthy", "unhealthy"
    OTHER_BUNDLE = "other_bundle", "other bundle"


class Step(TextChoices):
    """What the scheduler does with a row under observation."""

    END = "end", "the observation ends"
    FAIL = "fail", "the success fails late"
    SUSPECT = "suspect", "the suspicion changes"


# Further deployments of the product that were offered to the device after its success.
_NEWER = """deployments_devicedeployment AS newer
            WHERE newer.device_id = success.device_id AND newer.product = success.product
              AND newer.id <> success.id AND newer.offered_at > success.finished_at"""
# After these, the device runs the newer bundle, or nobody knows. After the others, it runs the observed one again.
SUPERSEDING_STATES = (
    DeviceDeploymentState.SUCCEEDED,
    DeviceDeploymentState.TIMED_OUT,
    DeviceDeploymentState.CANCELLED,
)
# `seen` is what the device's last heartbeat says about the bundle. Rows that another process has locked or changed
# meanwhile are left out.
_DUE = f"""
WITH observed AS (
    SELECT success.id, success.product, success.suspicion, success.suspected_at, success.observation_ends_at,
        device.last_heartbeat_at, device.running_bundles,
        deployment.unhealthy_seconds * interval '1 second' AS patience,
        CASE
            WHEN device.last_heartbeat_at IS NULL OR device.last_heartbeat_at <= success.finished_at THEN ''
            WHEN EXISTS (SELECT FROM {_NEWER} AND newer.state = ANY(%(active)s)) THEN ''
            WHEN device.running_bundles -> success.product ->> 'manifest_sha256' IS DISTINCT FROM bundle.manifest_sha256
                THEN 'other_bundle'
            WHEN device.running_bundles -> success.product ->> 'healthy' = 'false' THEN 'unhealthy'
            ELSE ''
        END AS seen,
        device.state <> 'accepted'
            OR EXISTS (SELECT FROM {_NEWER} AND newer.state = ANY(%(superseding)s)) AS is_superseded
    FROM deployments_devicedeployment AS success
    JOIN deployments_deployment AS deployment ON deployment.id = success.deployment_id
    JOIN bundles_bundle AS bundle ON bundle.id = coalesce(success.bundle_id, deployment.bundle_id)
    JOIN devices_device AS device ON device.id = success.device_id
    WHERE success.observation_ends_at IS NOT NULL
), decided AS (
    SELECT id, suspicion, seen, (running_bundles -> product)::text AS reported,
        CASE
            WHEN is_superseded THEN 'end'
            WHEN suspicion = seen AND seen = 'other_bundle' AND last_heartbeat_at > suspected_at THEN 'fail'
            WHEN suspicion = seen AND seen = 'unhealthy' AND last_heartbeat_at >= suspected_at + patience THEN 'fail'
            WHEN observation_ends_at + patience <= %(now)s THEN 'end'
            WHEN observation_ends_at <= %(now)s AND (suspicion = '' OR seen = '') THEN 'end'
            WHEN suspicion <> seen THEN 'suspect'
        END AS step
    FROM observed
)
SELECT success.id, success.deployment_id, success.device_id, success.product,
    decided.seen, decided.step, decided.reported
FROM decided JOIN deployments_devicedeployment AS success ON success.id = decided.id
WHERE step IS NOT NULL AND success.observation_ends_at IS NOT NULL AND success.suspicion = decided.suspicion
ORDER BY success.id LIMIT %(size)s FOR UPDATE OF success SKIP LOCKED
"""  # noqa: S608 — the fragment is a constant.

_FAIL = """
UPDATE deployments_devicedeployment AS success SET
    late_reason_code = failure.reason_code, late_message = failure.message, late_at = %(now)s,
    observation_ends_at = NULL, suspicion = '', suspected_at = NULL
FROM unnest(%(ids)s::uuid[], %(reason_codes)s::text[], %(messages)s::text[]) AS failure (id, reason_code, message)
WHERE success.id = failure.id AND success.state = 'succeeded' AND success.late_at IS NULL
RETURNING success.id
"""


@dataclass(frozen=True, slots=True)
class LateFailure:
    """A success that failed late. `row_id` is the device deployment's id."""

    row_id: UUID
    deployment_id: UUID
    device_id: UUID
    product: str
    reason_code: str
    message: str


@dataclass(frozen=True, slots=True)
class _Finding:
    """What the last heartbeat says about a row. `seen` is a `LateReason` or empty, `step` a `Step`.

    `reported` is the JSON text of what the device reports for the row's product.
    """

    row_id: UUID
    deployment_id: UUID
    device_id: UUID
    product: str
    seen: str
    step: str
    reported: str | None

    @property
    def failure(self) -> LateFailure:
        return LateFailure(self.row_id, self.deployment_id, self.device_id, self.product, self.seen, self._message)

    @property
    def _message(self) -> str:
        if self.reported is None:
            return f"The device does not run {self.product} any more."
        running = json.loads(self.reported)
        if self.seen == LateReason.OTHER_BUNDLE:
            return f"The device runs {self.product}@{running.get('version')}."
        return complaints({self.product: running})


def observe() -> int:
    """Look at the device deployments under observation. Return how many changed. Safe to run twice at once."""
    if not DeviceDeployment.objects.observed().exists():
        return 0
    return run_in_batches(_observe_batch, size=BATCH)


def _observe_batch() -> int:
    now = timezone.now()
    with connection.cursor() as cursor:
        cursor.execute(
            _DUE,
            {"now": now, "size": BATCH, "active": list(ACTIVE_STATES), "superseding": list(SUPERSEDING_STATES)},
        )
        findings = [_Finding(*row) for row in cursor.fetchall()]
    _end([finding.row_id for finding in findings if finding.step == Step.END])
    for seen in ("", *LateReason.values):
        suspects = [finding.row_id for finding in findings if finding.step == Step.SUSPECT and finding.seen == seen]
        DeviceDeployment.objects.filter(pk__in=suspects).update(suspicion=seen, suspected_at=now if seen else None)
    fail_late([finding.failure for finding in findings if finding.step == Step.FAIL], ACTOR)
    return len(findings)


def _end(row_ids: list[UUID]) -> None:
    DeviceDeployment.objects.filter(pk__in=row_ids).update(observation_ends_at=None, suspicion="", suspected_at=None)


def fail_late(failures: list[LateFailure], actor: str) -> int:
    """Record that successes failed late, with an event for each. Return how many were not recorded before.

    Call it in a transaction. `Deployment.late_failures` counts them.
    """
    if not failures:
        return 0
    values: dict[str, Any] = {
        "now": timezone.now(),
        "ids": [failure.row_id for failure in failures],
        "reason_codes": [failure.reason_code for failure in failures],
        "messages": [failure.message for failure in failures],
    }
    with connection.cursor() as cursor:
        cursor.execute(_FAIL, values)
        changed = {row[0] for row in cursor.fetchall()}
    recorded = [failure for failure in failures if failure.row_id in changed]
    for deployment_id, count in sorted(Counter(failure.deployment_id for failure in recorded).items()):
        Deployment.objects.filter(pk=deployment_id).update(late_failures=F("late_failures") + count)
    Event.objects.bulk_create(_event(failure, actor) for failure in recorded)
    return len(recorded)


def _event(failure: LateFailure, actor: str) -> Event:
    message = f"{failure.product} failed after its deployment had succeeded ({failure.reason_code}): {failure.message}"
    return Event(
        kind="deployment.failed_late",
        message=message[:MAX_MESSAGE_LENGTH],
        actor=actor,
        device_id=failure.device_id,
        deployment_id=failure.deployment_id,
        data={"product": failure.product, "reason_code": failure.reason_code},
    )
