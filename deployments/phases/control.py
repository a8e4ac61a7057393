"""What operators do to a deployment under way: pause, resume, promote.

Each of these is recorded with who, when and why. Each returns at once, whatever the number of devices; the scheduler
does the rest.
"""

from dataclasses import dataclass

from django.db import transaction

from deployments.models import Deployment, DeploymentState, Phase, PhaseState
from deployments.phases.advance import pause
from deployments.phases.survey import Survey, survey
from deployments.states import PauseReason
from foundation.errors import BadRequest, Conflict, IllegalTransition
from foundation.events.models import record_event

PROMOTABLE_STATES = (PhaseState.SETTLING, PhaseState.SOAKING, PhaseState.GATE)
# Why a deployment is paused after a trip.
TRIPPED_REASONS = (PauseReason.ERROR_THRESHOLD, PauseReason.SUCCESS_MISSED)


@dataclass(frozen=True, slots=True)
class Resumption:
    """How a deployment goes on, and why.

    After a trip, one of these is required: raise a threshold (`error_threshold_percent`, `success_threshold_percent`),
    `accept_failures`, so that those so far no longer count, or `skip_phase`, so that the next one begins. The last
    phase cannot be skipped.
    """

    reason: str = ""
    error_threshold_percent: int | None = None
    success_threshold_percent: int | None = None
    accept_failures: bool = False
    skip_phase: bool = False

    @property
    def is_decision(self) -> bool:
        has_threshold = self.error_threshold_percent is not None or self.success_threshold_percent is not None
        return has_threshold or self.accept_failures or self.skip_phase


def pause_deployment(deployment: Deployment, *, actor: str) -> None:
    """Offer nothing more until the deployment is resumed. Idempotent.

    Raises `IllegalTransition` (`wrong_state`).
    """
    with transaction.atomic():
        pause(deployment, PauseReason.OPERATOR, actor=actor)
    _require(deployment, DeploymentState.PAUSED, "paused")


def resume_deployment(deployment: Deployment, resumption: Resumption, *, actor: str) -> None:
    """Continue a paused deployment. Nothing happens if it is running.

    Raises:
        IllegalTransition: `wrong_state`.
        Conflict: `decision_required` after a trip, unless the resumption says what changes; `last_phase` if it skips
            the last phase.
        BadRequest: `reason_required` for such a decision without a reason.
    """
    with transaction.atomic():
        each = _locked(deployment)
        if each.deployment.state == DeploymentState.PAUSED:
            _resume(each, resumption)
            _continue(each.deployment, "resumed", actor=actor, reason=resumption.reason)
    _require(deployment, DeploymentState.RUNNING, "resumed")


def is_promotable(deployment: Deployment) -> bool:
    """Return whether `promote_deployment` would do something now."""
    at_gate = deployment.pause_reason == PauseReason.MANUAL_GATE
    if deployment.state != DeploymentState.RUNNING and not at_gate:
        return False
    open_phase = Phase.objects.filter(deployment=deployment, state__in=PROMOTABLE_STATES).first()
    return open_phase is not None and not open_phase.is_last


def promote_deployment(deployment: Deployment, *, actor: str) -> None:
    """Let the next phase begin, although the current one soaks, or waits for results or at its gate.

    Raises:
        IllegalTransition: `wrong_state` for a deployment that is not running and does not wait at a gate.
        Conflict: `nothing_to_promote` if the current phase is not filled yet, or is the last one.
    """
    with transaction.atomic():
        each = _locked(deployment)
        at_gate = each.deployment.pause_reason == PauseReason.MANUAL_GATE
        if each.deployment.state == DeploymentState.RUNNING or at_gate:
            phase = each.current
            if phase is None or phase.is_last or phase.state not in PROMOTABLE_STATES:
                raise Conflict("nothing_to_promote", "No phase waits for results, soaks, or waits at its gate.")
            phase.transition_to(PhaseState.PASSED)
            if at_gate:
                each.deployment.transition_to(DeploymentState.RUNNING)
            record_event(
                "deployment.promoted",
                f"Phase {phase.number} of the deployment of {each.deployment.bundle} was promoted.",
                actor=actor,
                deployment=deployment.pk,
                bundle=deployment.bundle_id,
                phase=phase.number,
            )
    _require(deployment, DeploymentState.RUNNING, "promoted")


def _locked(deployment: Deployment) -> Survey:
    locked = Deployment.objects.select_related("bundle").defer("bundle__manifest")
    return survey([locked.select_for_update(of=("self",), no_key=True).get(pk=deployment.pk)])[0]


def _resume(each: Survey, resumption: Resumption) -> None:
    if each.deployment.pause_reason in TRIPPED_REASONS:
        _resume_after_trip(each, resumption)
        return
    phase = each.current
    if phase is None:
        return
    if phase.state == PhaseState.GATE:
        phase.transition_to(PhaseState.PASSED)
    elif each.deployment.pause_reason == PauseReason.NOT_ENOUGH_DEVICES:
        if resumption.skip_phase:
            phase.transition_to(PhaseState.SKIPPED)
        else:
            phase.wait_for_devices(each.deployment.fill_seconds)


def _resume_after_trip(each: Survey, resumption: Resumption) -> None:
    """Open the tripped phase again, or skip it. None has tripped if all had passed when further devices failed."""
    _require_decision(each.deployment, resumption)
    tripped = [phase for phase in each.phases if phase.state == PhaseState.TRIPPED]
    if resumption.skip_phase and any(phase.is_last for phase in tripped):
        raise Conflict("last_phase", "The last phase cannot be skipped: accept its failures, or cancel the deployment.")
    _change(each, tripped or each.exceeded_phases, resumption)
    for phase in tripped:
        if resumption.skip_phase:
            phase.transition_to(PhaseState.SKIPPED)
        else:
            phase.open(each.deployment.fill_seconds)


def _require_decision(deployment: Deployment, resumption: Resumption) -> None:
    if not resumption.is_decision:
        raise Conflict(
            "decision_required",
            "A phase tripped. Raise a threshold, accept the failures, or skip the phase.",
            pause_reason=deployment.pause_reason,
        )
    if not resumption.reason.strip():
        raise BadRequest("reason_required", "Give the reason for this decision.")


def _change(each: Survey, tripped: list[Phase], resumption: Resumption) -> None:
    """Change the thresholds of the tripped phases, and forgive failures of them and of earlier ones."""
    changes: dict[str, int] = {}
    if resumption.error_threshold_percent is not None:
        changes["error_threshold_percent"] = resumption.error_threshold_percent
    if resumption.success_threshold_percent is not None:
        changes["success_threshold_percent"] = resumption.success_threshold_percent
    if changes:
        Phase.objects.filter(pk__in=[phase.pk for phase in tripped]).update(**changes)
    if resumption.accept_failures or resumption.skip_phase:
        for phase in each.phases:
            Phase.objects.filter(pk=phase.pk).update(forgiven=each.counts_of(phase).bad)


def _continue(deployment: Deployment, what: str, *, actor: str, reason: str) -> None:
    deployment.transition_to(DeploymentState.RUNNING)
    because = f": {reason.strip()}" if reason.strip() else ""
    record_event(
        f"deployment.{what}",
        f"The deployment of {deployment.bundle} was {what}{because}.",
        actor=actor,
        deployment=deployment.pk,
        bundle=deployment.bundle_id,
        reason=reason.strip(),
    )


def _require(deployment: Deployment, state: DeploymentState, done: str) -> None:
    """Load what is true now. Raise `IllegalTransition` (`wrong_state`) unless the deployment is in this state."""
    deployment.refresh_from_db(fields=["state", "pause_reason", "paused_at", "cancelled_at", "finished_at"])
    if deployment.state != state:
        raise IllegalTransition(
            "wrong_state", f"The deployment is {deployment.state} and cannot be {done}.", state=str(deployment.state)
        )
