"""Rolling back a deployment: a second deployment brings each device back to what it ran before.

1. The first deployment is `rolling_back`: what waits is cancelled, and devices at work are asked to stop.
2. The rollback is a deployment that `reverts` it. It is planned when the first deployment has stopped. Each of its
   device deployments names the bundle to return to: the one that ran when the device accepted the first deployment, or
   runs now if it has not accepted yet. The agent downloads nothing if it still has that release.
3. It includes the devices that run the bundle, or may come to run it because they are at work. A device at work is
   offered the rollback when its part in the first deployment has ended.
4. A device that gets another bundle of the product meanwhile, such as a newer one, keeps that one.
5. A rollback has the same limits of devices at work at once. It takes precedence over older deployments of the product,
   and continues if the bundle is withdrawn. If too many devices fail, it pauses; it is never rolled back itself.
6. When the rollback has finished, the first deployment finishes with the outcome `rolled_back`.
"""

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import OuterRef
from django.db.models.functions import Coalesce

from deployments.models import (
    Deployment,
    DeploymentState,
    DeviceDeployment,
    DeviceDeploymentQuerySet,
    DeviceDeploymentState,
    Phase,
    Selection,
)
from deployments.states import ACTIVE_STATES, FailureAction
from foundation.errors import Conflict, IllegalTransition
from foundation.events.models import record_event

# Device deployments of the first deployment whose devices run its bundle, or may come to run it. So may a device that
# did not answer a cancel.
REVERTED_STATES = (DeviceDeploymentState.SUCCEEDED, DeviceDeploymentState.TIMED_OUT, *ACTIVE_STATES)

# One batch, in the order of the devices' ids. The first to return are those whose bundle is unhealthy, then those that
# got it last.
PLAN_ROLLBACK = """
WITH visited AS MATERIALIZED (
    SELECT device_id, state, attempt, report, reason_code, previous_manifest_sha256, offered_at, finished_at
    FROM deployments_devicedeployment
    WHERE deployment_id = %(reverts)s AND device_id > coalesce(%(after)s::uuid, '00000000-0000-0000-0000-000000000000')
    ORDER BY device_id LIMIT %(size)s
),
judged AS (
    SELECT visited.device_id AS id, previous.id AS bundle_id,
        device.running_bundles -> %(product)s ->> 'healthy' IS NOT DISTINCT FROM 'false' AS is_unhealthy,
        extract(epoch FROM coalesce(visited.finished_at, %(now)s))::bigint AS switched_at,
        CASE
            WHEN device.state = 'decommissioned' THEN 'decommissioned'
            WHEN device.state <> 'accepted' THEN 'not_accepted'
            -- The device has not been heard from since its first offer, so it cannot have received the command.
            WHEN visited.attempt = 1 AND visited.report = 0
                AND coalesce(device.last_heartbeat_at, '-infinity') < visited.offered_at THEN 'not_running'
            WHEN visited.finished_at IS NOT NULL AND device.last_heartbeat_at > visited.finished_at
                AND device.running_bundles -> %(product)s ->> 'manifest_sha256'
                    IS DISTINCT FROM %(manifest_sha256)s THEN 'not_running'
            -- The device has installed another bundle, and no heartbeat says so yet.
            WHEN EXISTS (
                SELECT FROM deployments_devicedeployment AS newer
                JOIN deployments_deployment AS its_deployment ON its_deployment.id = newer.deployment_id
                WHERE newer.device_id = visited.device_id AND newer.product = %(product)s
                    AND newer.state = 'succeeded' AND newer.late_at IS NULL
                    AND newer.finished_at > greatest(visited.finished_at, device.last_heartbeat_at)
                    AND coalesce(newer.bundle_id, its_deployment.bundle_id) <> %(bundle)s
            ) AND visited.finished_at IS NOT NULL THEN 'not_running'
            WHEN previous.id IS NULL THEN 'nothing_to_return_to'
            ELSE ''
        END AS reason
    FROM visited
    JOIN devices_device AS device ON device.id = visited.device_id
    LEFT JOIN bundles_bundle AS previous ON previous.name = %(product)s AND previous.state = 'ready'
        AND previous.manifest_sha256 = CASE
            WHEN visited.previous_manifest_sha256 NOT IN ('', %(manifest_sha256)s)
                THEN visited.previous_manifest_sha256
            WHEN device.running_bundles -> %(product)s ->> 'manifest_sha256' <> %(manifest_sha256)s
                THEN device.running_bundles -> %(product)s ->> 'manifest_sha256'
            -- Nobody knows what ran before, for example because a heartbeat was faster than the report.
            ELSE (
                SELECT installed.manifest_sha256
                FROM deployments_devicedeployment AS earlier
                JOIN deployments_deployment AS its_deployment ON its_deployment.id = earlier.deployment_id
                JOIN bundles_bundle AS installed ON installed.id = coalesce(earlier.bundle_id, its_deployment.bundle_id)
                WHERE earlier.device_id = visited.device_id AND earlier.product = %(product)s
                    AND earlier.state = 'succeeded' AND earlier.finished_at < coalesce(visited.offered_at, %(now)s)
                    AND installed.manifest_sha256 <> %(manifest_sha256)s
                ORDER BY earlier.finished_at DESC LIMIT 1
            )
        END
        AND previous.manifest_sha256 <> %(manifest_sha256)s
    WHERE visited.state = ANY(%(reverted)s)
        OR (visited.state = 'cancelled' AND visited.reason_code = %(unanswered)s)
        -- It may have installed the bundle although its offer was taken back.
        OR (visited.state <> 'skipped' AND (visited.attempt > 1 OR visited.offered_at IS NOT NULL)
            AND device.running_bundles -> %(product)s ->> 'manifest_sha256' = %(manifest_sha256)s)
),
inserted AS (
    INSERT INTO deployments_devicedeployment (
        id, deployment_id, phase_id, admitted_at, rank, stratum, device_id, bundle_id, product, state, attempt, report,
        reason_code, message, bytes_done, bytes_total, timings, reached_at, late_state,
        created_at, state_changed_at, finished_at)
    SELECT gen_random_uuid(), %(deployment)s,
        CASE WHEN reason = '' THEN %(phase)s::bigint END, CASE WHEN reason = '' THEN %(now)s::timestamptz END,
        CASE WHEN is_unhealthy THEN 0 ELSE 2305843009213693952 END - switched_at,
        '', id, bundle_id, %(product)s, CASE WHEN reason = '' THEN 'waiting' ELSE 'skipped' END, 1, 0,
        reason, '', 0, 0, '{}', '{}', '',
        %(created_at)s, %(now)s, CASE WHEN reason <> '' THEN %(now)s::timestamptz END
    FROM judged
    ON CONFLICT (deployment_id, device_id) DO NOTHING
)
SELECT (SELECT count(*) FROM visited), (SELECT device_id FROM visited ORDER BY device_id DESC LIMIT 1),
    (SELECT coalesce(json_object_agg(reason, devices), '{}')::text
        FROM (SELECT reason, count(*) AS devices FROM judged GROUP BY reason) AS reasons)
"""


def other_successes() -> DeviceDeploymentQuerySet:
    """For a subquery of a rollback's rows: successes of other bundles of the product since the rollback began."""
    successes = DeviceDeployment.objects.in_states(DeviceDeploymentState.SUCCEEDED).filter(
        device=OuterRef("device"), product=OuterRef("product"), late_at=None, finished_at__gt=OuterRef("created_at")
    )
    installed = Coalesce("bundle", "deployment__bundle")
    return successes.alias(installed=installed).exclude(installed=OuterRef("deployment__bundle")).order_by()


def roll_back(deployment: Deployment, *, reason: str, actor: str, created_by: User | None = None) -> Deployment:
    """Roll a deployment back. Return the rollback, which the scheduler then plans. Idempotent.

    Raises:
        Conflict: `is_a_rollback`.
        IllegalTransition: `wrong_state` for a deployment that is being planned.
    """
    if deployment.reverts_id:
        raise Conflict("is_a_rollback", "This deployment is a rollback. Deploy the bundle again instead.")
    with transaction.atomic():
        if not deployment.transition_to(DeploymentState.ROLLING_BACK):
            deployment.refresh_from_db()
            rollback = deployment.rollbacks.first()
            if rollback is None:
                raise IllegalTransition(
                    "wrong_state",
                    f"The deployment is {deployment.state} and cannot be rolled back.",
                    state=str(deployment.state),
                )
            return rollback
        rollback = Deployment.objects.create(
            bundle=deployment.bundle,
            reverts=deployment,
            note=reason,
            created_by=created_by,
            on_failure=FailureAction.PAUSE,
            max_attempts=deployment.max_attempts,
            max_in_flight=deployment.max_in_flight,
            max_in_flight_per_tag=deployment.max_in_flight_per_tag,
            limit_tag=deployment.limit_tag,
            deadline_seconds=deployment.deadline_seconds,
            observation_seconds=deployment.observation_seconds,
            unhealthy_seconds=deployment.unhealthy_seconds,
        )
        Phase.objects.create(deployment=rollback, number=1)
        Selection.objects.create(deployment=rollback)
        record_event(
            "deployment.rolling_back",
            f"The deployment of {deployment.bundle} is being rolled back" + (f": {reason}." if reason else "."),
            actor=actor,
            deployment=deployment.pk,
            bundle=deployment.bundle_id,
            rollback=str(rollback.pk),
        )
    return rollback
