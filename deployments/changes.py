"""Changes to a deployment under way: its times, limits, priority and attempts."""

from collections.abc import Mapping
from typing import Any

from django.db import transaction

from deployments.limits import check_limits
from deployments.models import Deployment, DeploymentState
from deployments.schedule import check_times
from foundation.errors import IllegalTransition
from foundation.events.models import record_event

CHANGEABLE_FIELDS = (
    "start_at",
    "expires_at",
    "priority",
    "max_attempts",
    "max_in_flight",
    "max_in_flight_per_tag",
    "limit_tag",
    "min_available_percent",
    "devices_per_minute",
    "max_bad",
)
CHANGEABLE_STATES = (
    DeploymentState.PLANNING,
    DeploymentState.SCHEDULED,
    DeploymentState.RUNNING,
    DeploymentState.PAUSED,
)
BEFORE_START = (DeploymentState.PLANNING, DeploymentState.SCHEDULED)


def change_deployment(deployment: Deployment, changes: Mapping[str, Any], *, reason: str, actor: str) -> Deployment:
    """Change some of `CHANGEABLE_FIELDS`. Return the deployment as it is now. Idempotent.

    Raises:
        IllegalTransition: `wrong_state` for a deployment that has ended, or for `start_at` of one that has begun.
        BadRequest: `bad_times`, `bad_limits`.
    """
    with transaction.atomic():
        locked = Deployment.objects.select_related("bundle").defer("bundle__manifest")
        current = locked.select_for_update(of=("self",), no_key=True).get(pk=deployment.pk)
        changed = {name: value for name, value in changes.items() if getattr(current, name) != value}
        if not changed:
            return current
        _require_changeable(current, "start_at" in changed)
        before = {name: _as_json(getattr(current, name)) for name in changed}
        for name, value in changed.items():
            setattr(current, name, value)
        if "start_at" in changed or "expires_at" in changed:
            check_times(current.start_at, current.expires_at)
        check_limits(current.limit_tag, current.max_in_flight_per_tag)
        current.save(update_fields=list(changed))
        because = f": {reason.strip()}" if reason.strip() else ""
        record_event(
            "deployment.changed",
            f"The deployment of {current.title} was changed ({', '.join(sorted(changed))}){because}.",
            actor=actor,
            deployment=current.pk,
            bundle=current.bundle_id,
            before=before,
            after={name: _as_json(value) for name, value in changed.items()},
            reason=reason.strip(),
        )
    return current


def _require_changeable(deployment: Deployment, changes_start: bool) -> None:
    if deployment.finished_at is not None or deployment.state not in CHANGEABLE_STATES:
        raise IllegalTransition(
            "wrong_state", f"The deployment is {deployment.state} and cannot be changed.", state=str(deployment.state)
        )
    if changes_start and deployment.state not in BEFORE_START:
        raise IllegalTransition("wrong_state", "The deployment has begun.", state=str(deployment.state))


def _as_json(value: Any) -> Any:
    return value if isinstance(value, int | str | None) else value.isoformat()
