"""Retries: what happens after a device has failed for a temporary reason.

While attempts remain, the device deployment does not end: it waits, keeps its place in its phase, and is offered again
at `retry_at`. The pause is 5 minutes after the first failure, then 20, then 80, up to 6 hours. Each pause is randomly
up to 20 % shorter or longer, so that devices that failed together do not all retry at once.

Failures that the same bundle would cause again are final: a bad manifest or blob, the wrong device type, a failing
hook, an unhealthy or crashing program.

A device that failed three times within a day, in any deployments, cools down for a day after the third failure. In this
time, only the last phase of a deployment admits it, so it does not take another device's place.
"""

import secrets
from datetime import timedelta
from typing import Any

from django.utils import timezone

from deployments.models import DeploymentState, DeviceDeployment, DeviceDeploymentState

RETRYABLE_REASONS = frozenset({"download_failed", "interrupted", "start_failed", "health_timeout", "no_space"})
FAILURES = (DeviceDeploymentState.FAILED, DeviceDeploymentState.ROLLED_BACK, DeviceDeploymentState.REJECTED)
MAX_ATTEMPTS = 20
FIRST_PAUSE_SECONDS = 300
PAUSE_FACTOR = 4
MAX_PAUSE_SECONDS = 6 * 3600
JITTER_PERCENT = 20

# An SQL condition for a query with the alias `candidate` and the parameter `now`.
IS_COOLING_DOWN = """
EXISTS (
    SELECT FROM deployments_devicedeployment AS third
    WHERE third.device_id = candidate.device_id AND third.finished_at > %(now)s - interval '1 day'
      AND (third.state IN ('failed', 'rolled_back', 'rejected', 'timed_out') OR third.late_at IS NOT NULL)
      AND 3 <= (
        SELECT count(*) FROM deployments_devicedeployment AS ending
        WHERE ending.device_id = third.device_id
          AND ending.finished_at <= third.finished_at AND ending.finished_at > third.finished_at - interval '1 day'
          AND (ending.state IN ('failed', 'rolled_back', 'rejected', 'timed_out') OR ending.late_at IS NOT NULL)
      )
)
"""


def may_retry(row: DeviceDeployment, state: str, reason_code: str) -> bool:
    """Return whether a device may try again after an attempt that ended with this state and reason."""
    if state not in FAILURES or reason_code not in RETRYABLE_REASONS:
        return False
    if row.state == DeviceDeploymentState.CANCELLING:
        return False
    deployment = row.deployment
    is_under_way = deployment.state in (DeploymentState.RUNNING, DeploymentState.PAUSED)
    return is_under_way and row.failures + 1 < deployment.max_attempts


def next_attempt(row: DeviceDeployment) -> dict[str, Any]:
    """Return the new values of the columns, so that the device deployment waits for its next attempt."""
    return {
        "attempt": row.attempt + 1,
        "failures": row.failures + 1,
        "report": 0,
        "retry_at": timezone.now() + pause_after(row.failures + 1),
        "offered_at": None,
        "deadline_at": None,
        "reached_at": {},
        "bytes_done": 0,
        "bytes_total": 0,
    }


def pause_after(failures: int) -> timedelta:
    """Return how long a device waits after this many failures."""
    exponent = min(failures - 1, 10)
    seconds = min(FIRST_PAUSE_SECONDS * PAUSE_FACTOR**exponent, MAX_PAUSE_SECONDS)
    return timedelta(seconds=seconds * (100 - JITTER_PERCENT + secrets.randbelow(2 * JITTER_PERCENT + 1)) / 100)
