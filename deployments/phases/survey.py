"""What is known about deployments that are under way: their phases, the counts of each, and who waits.

One survey reads any number of deployments in a few statements.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import connection
from django.db.models import Exists, OuterRef
from django.utils import timezone

from deployments.models import Deployment, DeploymentState, DeviceDeployment, Phase, PhaseState
from deployments.phases.decision import STAY, Decision, Situation, decide
from deployments.phases.thresholds import PhaseCounts
from deployments.states import (
    OPEN_PHASE_STATES,
    UNFINISHED_STATES,
    UNSUCCESSFUL_STATES,
    FailureAction,
    PauseReason,
)

# A phase that settles fills the places of evicted devices again.
ADMITTING_STATES = (PhaseState.FILLING, PhaseState.SETTLING)
# Phases whose devices are judged although they have ended: a success may fail late.
JUDGED_STATES = (PhaseState.PASSED, PhaseState.TRIPPED)

_COUNTS = """
SELECT phase_id, count(*),
    count(*) FILTER (WHERE state = 'succeeded' AND late_at IS NULL),
    count(*) FILTER (WHERE late_at IS NOT NULL OR (state = ANY(%(unsuccessful)s) AND NOT is_lost)),
    count(*) FILTER (WHERE is_lost),
    count(*) FILTER (WHERE state = 'cancelled' AND NOT is_lost)
FROM (
    SELECT phase_id, state, late_at,
        (state = 'timed_out' AND reason_code = 'never_accepted') OR (state = 'cancelled' AND reason_code = 'expired')
            AS is_lost
    FROM deployments_devicedeployment WHERE phase_id = ANY(%(phases)s)
) AS admitted
GROUP BY phase_id
"""


def counts_of_phases(phases: Iterable[Phase]) -> dict[int, PhaseCounts]:
    """Return the counts of each phase that has admitted devices. One statement."""
    values: dict[str, Any] = {"phases": [phase.pk for phase in phases], "unsuccessful": list(UNSUCCESSFUL_STATES)}
    with connection.cursor() as cursor:
        cursor.execute(_COUNTS, values)
        return {phase_id: PhaseCounts(*counts) for phase_id, *counts in cursor.fetchall()}


@dataclass(slots=True)
class Survey:
    """What is known about one deployment: its phases in order, their counts, and who waits."""

    deployment: Deployment
    phases: list[Phase] = field(default_factory=list)
    counts: dict[int, PhaseCounts] = field(default_factory=dict)
    candidates: bool = False
    unfinished: bool = False

    @property
    def current(self) -> Phase | None:
        """The phase that is open, or the next one to open. None: all have ended."""
        return next((phase for phase in self.phases if phase.state in (*OPEN_PHASE_STATES, PhaseState.PENDING)), None)

    def counts_of(self, phase: Phase) -> PhaseCounts:
        return self.counts.get(phase.pk, PhaseCounts())

    def missing(self, current: Phase) -> int:
        """Return how many more devices the phase may admit."""
        admitted = sum(self.counts_of(phase).judged for phase in self.phases if phase.number <= current.number)
        return max(0, current.device_count - admitted)

    def next_decision(self) -> Decision:
        phase = self.current
        if phase is None:
            return STAY
        if phase.state != PhaseState.PENDING and self.is_exceeded:
            return Decision(PhaseState.TRIPPED, PauseReason.ERROR_THRESHOLD)
        situation = Situation(
            state=PhaseState(phase.state),
            counts=self.counts_of(phase).forgiving(phase.forgiven),
            thresholds=phase.thresholds(self.deployment.min_sample),
            missing=self.missing(phase),
            candidates=self.candidates,
            is_last=phase.is_last,
            manual_gate=phase.manual_gate,
            soak_seconds=phase.soak_seconds,
            fill_ends_at=phase.fill_ends_at,
            soak_ends_at=phase.soak_ends_at,
        )
        return decide(situation, timezone.now())

    @property
    def is_exceeded(self) -> bool:
        """Too many devices failed in a phase that has ended, or altogether."""
        bad = sum(self.counts_of(phase).bad - phase.forgiven for phase in self.phases)
        has_too_many = self.deployment.max_bad is not None and bad > self.deployment.max_bad
        return has_too_many or bool(self.exceeded_phases)

    @property
    def exceeded_phases(self) -> list[Phase]:
        """The phases that have ended and have too many failures."""
        # A deployment that ended while it was paused leaves the phase that was open as skipped.
        skipped = () if self.deployment.finished_at is None else (PhaseState.SKIPPED,)
        min_sample = self.deployment.min_sample
        return [
            phase
            for phase in self.phases
            if phase.state in (*JUDGED_STATES, *skipped)
            and phase.thresholds(min_sample).is_exceeded(self.counts_of(phase).forgiving(phase.forgiven))
        ]

    @property
    def trip_reason(self) -> PauseReason | None:
        """Why the deployment is to be stopped now, or None. A pause does not prevent a rollback."""
        rolls_back = self.deployment.on_failure == FailureAction.ROLL_BACK
        is_running = self.deployment.state == DeploymentState.RUNNING
        decision = self.next_decision()
        if decision.state == PhaseState.TRIPPED and (rolls_back or is_running):
            return decision.pause_reason
        is_last_part = is_running and self.current is None and self.unfinished
        return PauseReason.ERROR_THRESHOLD if self.is_exceeded and (rolls_back or is_last_part) else None

    @property
    def is_due(self) -> bool:
        is_tripped = self.trip_reason is not None
        if is_tripped or self.deployment.state != DeploymentState.RUNNING:
            return is_tripped
        return self.next_decision() != STAY or self.may_admit or bool(self.evicting_phases)

    @property
    def may_admit(self) -> bool:
        phase = self.current
        if phase is None or phase.state not in ADMITTING_STATES or not self.candidates:
            return False
        return phase.is_last or self.missing(phase) > 0

    @property
    def evicting_phases(self) -> list[Phase]:
        """The phases whose oldest offers may have been open for too long.

        The last phase keeps its devices. Once it has admitted all, no phase could admit an evicted device again.
        """
        current = self.current
        if current is None or (current.is_last and current.state not in ADMITTING_STATES):
            return []
        latest = timezone.now() - timedelta(seconds=self.deployment.accept_seconds)
        opened = [phase for phase in self.phases if not phase.is_last and phase.opened_at and phase.opened_at <= latest]
        return [phase for phase in opened if self.counts_of(phase).unfinished]


def survey(deployments: Iterable[Deployment]) -> list[Survey]:
    """Return what is known about these deployments. Three statements, however many there are."""
    surveys = {deployment.pk: Survey(deployment) for deployment in deployments}
    for phase in Phase.objects.filter(deployment__in=surveys):
        surveys[phase.deployment_id].phases.append(phase)
    opened = [phase for each in surveys.values() for phase in each.phases if phase.state != PhaseState.PENDING]
    counts = counts_of_phases(opened) if opened else {}
    rows = DeviceDeployment.objects.filter(deployment=OuterRef("pk"))
    waiting = Exists(rows.candidates())
    unfinished = Exists(rows.in_states(*UNFINISHED_STATES))
    facts = Deployment.objects.filter(pk__in=surveys).order_by().values_list("pk", waiting, unfinished)
    for deployment_id, candidates, is_unfinished in facts:
        each = surveys[deployment_id]
        each.counts, each.candidates, each.unfinished = counts, candidates, is_unfinished
    return list(surveys.values())
