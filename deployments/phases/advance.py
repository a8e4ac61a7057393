"""How the scheduler takes deployments from phase to phase.

A tick reads the counts of all running deployments in a few statements, whatever their number. It locks and changes a
deployment only if there is something to do. The same function runs after each report of a failure, so a bad bundle is
stopped without waiting for the next tick.
"""

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef, Q
from django.utils import timezone

from deployments.models import (
    Deployment,
    DeploymentState,
    DeviceDeployment,
    DeviceDeploymentState,
    Phase,
    PhaseState,
)
from deployments.phases.admission import admit, evict
from deployments.phases.decision import STAY, Decision
from deployments.phases.survey import Survey, survey
from deployments.rollback import roll_back
from deployments.states import OPEN_PHASE_STATES, FailureAction, PauseReason
from foundation.batches import RUN_SECONDS, time_boxed
from foundation.events.models import record_event
from foundation.scheduler import ACTOR

# How many steps one deployment takes in one tick.
STEPS = 20
# How long a late failure may roll back a deployment that has ended, for example after an outage of the scheduler.
LATE_FAILURE_TIME = timedelta(days=1)


def advance() -> int:
    """Take each running deployment as far as it may go now, and stop those that failed. Return the number of steps."""
    Phase.objects.filter(deployment__finished_at=None).adopt()
    roll_back_late_failures()
    stoppable = Deployment.objects.stoppable().defer("stratum_sizes")
    due = [each.deployment.pk for each in survey(stoppable) if each.is_due]
    return sum(advance_deployment(deployment_id) for deployment_id in time_boxed(due, RUN_SECONDS))


def roll_back_late_failures() -> int:
    """Roll back finished deployments whose successes failed late beyond a threshold. Return how many.

    Only those are looked at that are rolled back after a trip, and whose successes are still observed or have just
    failed late: perhaps all of them at once.
    """
    has_just_failed = Q(late_at__gte=timezone.now() - LATE_FAILURE_TIME)
    watched_rows = DeviceDeployment.objects.filter(Q(observation_ends_at__isnull=False) | has_just_failed)
    watched = Deployment.objects.in_states(DeploymentState.FINISHED).filter(
        Exists(watched_rows.filter(deployment=OuterRef("pk"))),
        on_failure=FailureAction.ROLL_BACK,
        late_failures__gt=0,
        rolled_back_at=None,
    )
    exceeded = [each.deployment for each in survey(watched.select_related("bundle")) if each.is_exceeded]
    for deployment in exceeded:
        roll_back(deployment, reason=PauseReason.ERROR_THRESHOLD.label, actor=ACTOR)
    return len(exceeded)


def advance_deployment(deployment_id: UUID) -> int:
    """Take one deployment as far as it may go now. Return how many steps were taken.

    Nothing happens while another process holds the deployment's lock: that process, or the next tick, sees the same.
    """
    for step in range(STEPS):
        with transaction.atomic():
            locked = Deployment.objects.stoppable().filter(pk=deployment_id).select_related("bundle")
            locked = locked.defer("bundle__manifest").select_for_update(skip_locked=True, of=("self",), no_key=True)
            deployment = locked.first()
            if deployment is None or not _take_step(survey([deployment])[0]):
                return step
    return STEPS


def trip_if_exceeded(deployment_id: UUID) -> bool:
    """Stop a deployment whose failures exceed a threshold. Call it after a failure has been committed.

    Return whether this call stopped it.
    """
    stoppable = Deployment.objects.stoppable().filter(pk=deployment_id).defer("stratum_sizes")
    if not any(each.trip_reason for each in survey(stoppable)):
        return False
    with transaction.atomic():
        locked = stoppable.select_related("bundle").defer("bundle__manifest", "stratum_sizes")
        for each in survey(list(locked.select_for_update(of=("self",), no_key=True))):
            if each.trip_reason:
                return _take_step(each)
    return False


def _take_step(each: Survey) -> bool:
    """Stop the deployment, evict, admit, or take the current phase to its next state. False: nothing to do."""
    if each.trip_reason is not None:
        _trip(each, each.trip_reason)
        return True
    phase = each.current
    if phase is None or each.deployment.state != DeploymentState.RUNNING:
        return False
    decision = each.next_decision()
    if decision.state is None:  # it stays, or pauses if no device can be admitted
        evicted = sum(evict(each.deployment, silent) for silent in each.evicting_phases)
        admitted = each.may_admit and admit(each.deployment, phase, each.missing(phase))
        if evicted or admitted or decision == STAY:
            return bool(evicted or admitted)
    _carry_out(each, phase, decision)
    return True


def _carry_out(each: Survey, phase: Phase, decision: Decision) -> None:
    deployment = each.deployment
    if decision.state == PhaseState.FILLING:
        phase.open(deployment.fill_seconds)
    elif decision.state == PhaseState.SOAKING:
        phase.transition_to(PhaseState.SOAKING, soak_ends_at=timezone.now() + phase.soak_time)
    elif decision.state is not None:
        phase.transition_to(decision.state)
    if decision.state == PhaseState.PASSED and len(each.phases) > 1:
        counts = each.counts_of(phase)
        _record(
            "deployment.phase_passed",
            f"Phase {phase.number} of {len(each.phases)} of the deployment of {deployment.bundle} passed:"
            f" {counts.good} of {counts.judged} devices succeeded.",
            deployment,
            phase=phase.number,
        )
    if decision.pause_reason is not None:
        pause(deployment, decision.pause_reason, actor=ACTOR)


def _trip(each: Survey, reason: PauseReason) -> None:
    """Stop a deployment with too many failures. There is nothing to pause or cancel if all its devices have ended."""
    deployment, phase = each.deployment, each.current
    counts = [each.counts_of(phase) for phase in each.phases]
    bad, judged = sum(each.bad for each in counts), sum(each.judged for each in counts)
    if phase is not None and phase.state in OPEN_PHASE_STATES:
        phase.transition_to(PhaseState.TRIPPED)
        _record(
            "deployment.tripped",
            f"Phase {phase.number} of {len(each.phases)} of the deployment of {deployment.bundle} tripped"
            f" ({reason.label}): {bad} of {judged} devices failed.",
            deployment,
            phase=phase.number,
            reason_code=reason.value,
        )
    if deployment.on_failure == FailureAction.ROLL_BACK:
        roll_back(deployment, reason=reason.label, actor=ACTOR)
    elif not each.unfinished:
        return
    elif deployment.on_failure == FailureAction.CANCEL:
        deployment.transition_to(DeploymentState.CANCELLED, reason_code=reason)
        message = f"The deployment of {deployment.bundle} was cancelled: {reason.label}."
        _record("deployment.cancelled", message, deployment, reason_code=reason.value)
    else:
        pause(deployment, reason, actor=ACTOR)


def pause(deployment: Deployment, reason: PauseReason, *, actor: str) -> bool:
    """Offer nothing more. Devices that have accepted an offer finish. Return False if it is not running."""
    if not deployment.transition_to(DeploymentState.PAUSED, pause_reason=reason, only_from=[DeploymentState.RUNNING]):
        return False
    message = f"The deployment of {deployment.bundle} is paused: {reason.label}."
    _record("deployment.paused", message, deployment, actor=actor, reason_code=reason.value)
    return True


def withdraw_offers_of_paused() -> int:
    """Take back offers of paused deployments that no device has acknowledged. Return how many.

    The devices keep their places in the phases.
    """
    offered = DeviceDeployment.objects.in_states(DeviceDeploymentState.OFFERED).filter(deployment=OuterRef("pk"))
    paused = Deployment.objects.paused().filter(Exists(offered))
    withdrawn = 0
    for deployment_id in time_boxed(paused.values_list("pk", flat=True), RUN_SECONDS):
        with transaction.atomic():
            rows = DeviceDeployment.objects.filter(deployment=deployment_id)
            withdrawn += rows.withdraw_unacknowledged_offers()
    return withdrawn


def _record(kind: str, message: str, deployment: Deployment, *, actor: str = ACTOR, **data: Any) -> None:
    record_event(kind, message, actor=actor, deployment=deployment.pk, bundle=deployment.bundle_id, **data)
