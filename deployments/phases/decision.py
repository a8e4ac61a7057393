"""What a phase does next: a pure function of what is known about it."""

from dataclasses import dataclass
from datetime import datetime

from deployments.phases.thresholds import PhaseCounts, Thresholds
from deployments.states import PauseReason, PhaseState


@dataclass(frozen=True, slots=True)
class Situation:
    """A phase that is open or the next to open, as the scheduler finds it.

    `counts` are those of its admitted devices. `missing` is how many devices it may still admit, 0 if it is full, and
    `candidates` is whether any device waits for admission.
    """

    state: PhaseState
    counts: PhaseCounts
    thresholds: Thresholds
    missing: int
    candidates: bool
    is_last: bool
    manual_gate: bool
    soak_seconds: int
    fill_ends_at: datetime | None = None
    soak_ends_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The state that the phase goes to, or None if it stays. `pause_reason` is set if the deployment has to stop."""

    state: PhaseState | None = None
    pause_reason: PauseReason | None = None


STAY = Decision()


def decide(phase: Situation, now: datetime) -> Decision:
    """Return what a phase does next.

    It goes one step at a time: pending, filling, settling, soaking, gate, passed.
    """
    counts, thresholds = phase.counts, phase.thresholds
    if phase.state == PhaseState.PENDING:
        is_empty = not phase.candidates if phase.is_last else not phase.missing or not phase.candidates
        return Decision(PhaseState.SKIPPED if is_empty else PhaseState.FILLING)
    if thresholds.is_exceeded(counts):
        return Decision(PhaseState.TRIPPED, PauseReason.ERROR_THRESHOLD)
    if phase.state == PhaseState.FILLING:
        return _fill(phase, now)
    if thresholds.is_missed(counts):
        return Decision(PhaseState.TRIPPED, PauseReason.SUCCESS_MISSED)
    if phase.state == PhaseState.SETTLING:
        return _settle(phase, now)
    if phase.state == PhaseState.SOAKING:
        is_over = phase.soak_ends_at is None or now >= phase.soak_ends_at
        return _leave(phase) if is_over else STAY
    return STAY  # an operator decides at the gate


def _fill(phase: Situation, now: datetime) -> Decision:
    return Decision(PhaseState.SETTLING) if _is_filled(phase, now) else _wait_for_devices(phase, now)


def _wait_for_devices(phase: Situation, now: datetime) -> Decision:
    if phase.is_last or not _is_late(phase, now):
        return STAY
    return Decision(pause_reason=PauseReason.NOT_ENOUGH_DEVICES)


def _is_filled(phase: Situation, now: datetime) -> bool:
    """The phase has all its devices, or enough of them after the time for filling it is over."""
    if not phase.candidates or (not phase.is_last and not phase.missing):
        return True
    admitted = phase.counts.judged
    enough = min(phase.thresholds.min_sample, admitted + phase.missing)
    return not phase.is_last and _is_late(phase, now) and admitted >= enough


def _is_late(phase: Situation, now: datetime) -> bool:
    return phase.fill_ends_at is not None and now >= phase.fill_ends_at


def _settle(phase: Situation, now: datetime) -> Decision:
    """Wait for results. A place that an evicted device left is filled again first."""
    counts = phase.counts
    if not _is_filled(phase, now):
        return _wait_for_devices(phase, now)
    if phase.is_last and counts.unfinished:
        return STAY
    if phase.thresholds.is_success(counts):
        return Decision(PhaseState.SOAKING) if phase.soak_seconds else _leave(phase)
    if counts.judged == 0:  # all its devices were cancelled, or never accepted the offer
        has_ended = phase.is_last or not phase.candidates
        return Decision(PhaseState.SKIPPED) if has_ended else Decision(pause_reason=PauseReason.NOT_ENOUGH_DEVICES)
    return STAY


def _leave(phase: Situation) -> Decision:
    needs_operator = phase.manual_gate and not phase.is_last
    return Decision(PhaseState.GATE, PauseReason.MANUAL_GATE) if needs_operator else Decision(PhaseState.PASSED)
