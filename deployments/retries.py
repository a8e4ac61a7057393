"""Retries: what happens after a device has failed for a reason that may pass.

The device deployment has not ended while attempts remain: it waits, keeps its place in its phase, and is offered again
at `retry_at`. The pause before the next attempt is 5 minutes after the first failure, then 20, then 80, up to 6 hours,
and up to a fifth shorter or longer, so that devices that failed together do not return together.

Failures that the same bundle would cause again are final: a bad manifest or blob, the wrong device type, a failing
hook, an unhealthy or crashing program.

A device that ended badly three times within a day, in any deployments, is cooling for a day after the third. A phase
does not admit it before the last phase, so it takes no place from another device.
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
# In percent of the pause.
JITTER = 20

# `device_id` is that of the candidate. `%(now)s` is a parameter.
IS_COOLING = """
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
    """Return whether a device that reports this end of its attempt is to try again."""
    if state not in FAILURES or reason_code not in RETRYABLE_REASONS:
        return False
    if row.state == DeviceDeploymentState.CANCELLING:
        return False
    deployment = row.deployment
    is_under_way = deployment.state in (DeploymentState.RUNNING, DeploymentState.PAUSED)
    return is_under_way and row.failures + 1 < deployment.max_attempts


def next_attempt(row: DeviceDeployment) -> dict[str, Any]:
    """Return the columns of a device deployment that waits for its next attempt."""
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
    return timedelta(seconds=seconds * (100 - JITTER + secrets.randbelow(2 * JITTER + 1)) / 100)
