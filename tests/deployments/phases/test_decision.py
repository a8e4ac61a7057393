"""What a phase does next, as a table: the situation, and the decision."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from deployments.phases.decision import STAY, Decision, Situation, decide
from deployments.phases.thresholds import PhaseCounts, Thresholds
from deployments.states import PauseReason, PhaseState

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
BEFORE, AFTER = NOW - timedelta(seconds=1), NOW + timedelta(seconds=1)
TEN = PhaseCounts(admitted=10, good=10)
FILLING = Situation(
    state=PhaseState.FILLING,
    counts=PhaseCounts(admitted=4),
    thresholds=Thresholds(min_sample=5),
    missing=6,
    candidates=True,
    is_last=False,
    manual_gate=False,
    soak_seconds=0,
    fill_ends_at=AFTER,
)
SETTLING = replace(FILLING, state=PhaseState.SETTLING, counts=TEN, missing=0)
SOAKING = replace(SETTLING, state=PhaseState.SOAKING, soak_seconds=60, soak_ends_at=AFTER)
LAST = replace(SETTLING, is_last=True, candidates=False)
PENDING = replace(FILLING, state=PhaseState.PENDING, counts=PhaseCounts())


def to(state: PhaseState, reason: PauseReason | None = None) -> Decision:
    return Decision(state, reason)


NOT_ENOUGH = Decision(pause_reason=PauseReason.NOT_ENOUGH_DEVICES)
MISSED = to(PhaseState.TRIPPED, PauseReason.SUCCESS_MISSED)
ERROR = to(PhaseState.TRIPPED, PauseReason.ERROR_THRESHOLD)
TABLE = {
    "a pending phase opens": (PENDING, to(PhaseState.FILLING)),
    "a phase for which earlier ones left no device is skipped": (replace(PENDING, missing=0), to(PhaseState.SKIPPED)),
    "and so is one without candidates": (replace(PENDING, candidates=False), to(PhaseState.SKIPPED)),
    "the last phase opens if anybody waits": (replace(PENDING, is_last=True, missing=0), to(PhaseState.FILLING)),
    "a phase waits until it is full": (FILLING, STAY),
    "a full phase settles": (replace(FILLING, missing=0), to(PhaseState.SETTLING)),
    "and one that has all devices": (replace(FILLING, candidates=False), to(PhaseState.SETTLING)),
    "too few devices in time stop the deployment": (replace(FILLING, fill_ends_at=BEFORE), NOT_ENOUGH),
    "a sample is enough in time": (
        replace(FILLING, fill_ends_at=BEFORE, counts=PhaseCounts(admitted=5)),
        to(PhaseState.SETTLING),
    ),
    "lost devices are not part of the sample": (
        replace(FILLING, fill_ends_at=BEFORE, counts=PhaseCounts(admitted=5, lost=1)),
        NOT_ENOUGH,
    ),
    "a small phase needs all its devices": (
        replace(FILLING, fill_ends_at=BEFORE, counts=PhaseCounts(admitted=2), missing=1),
        NOT_ENOUGH,
    ),
    "the last phase never gives up": (replace(FILLING, is_last=True, fill_ends_at=BEFORE), STAY),
    "a failure trips a phase while it is filled": (replace(FILLING, counts=PhaseCounts(4, 2, 1)), ERROR),
    "a success passes": (SETTLING, to(PhaseState.PASSED)),
    "a success soaks": (replace(SETTLING, soak_seconds=60), to(PhaseState.SOAKING)),
    "a success waits at the gate": (
        replace(SETTLING, manual_gate=True),
        to(PhaseState.GATE, PauseReason.MANUAL_GATE),
    ),
    "a phase settles until enough have succeeded": (replace(SETTLING, counts=PhaseCounts(100, 94)), STAY),
    "although some are unfinished": (replace(SETTLING, counts=PhaseCounts(100, 95)), to(PhaseState.PASSED)),
    "a place that became free is filled first": (replace(SETTLING, missing=1), STAY),
    "unless nobody comes in time": (replace(SETTLING, missing=1, fill_ends_at=BEFORE), to(PhaseState.PASSED)),
    "an impossible success stops at once": (replace(SETTLING, counts=PhaseCounts(100, 54, 6)), MISSED),
    "even below the error threshold": (
        replace(SETTLING, counts=PhaseCounts(100, 94, 6), thresholds=Thresholds(95, 10)),
        MISSED,
    ),
    "all cancelled is no success": (replace(SETTLING, counts=PhaseCounts(3, neutral=3)), NOT_ENOUGH),
    "nor is all lost": (replace(SETTLING, counts=PhaseCounts(3, lost=3)), NOT_ENOUGH),
    "the end of the candidates": (
        replace(SETTLING, counts=PhaseCounts(3, lost=3), candidates=False),
        to(PhaseState.SKIPPED),
    ),
    "a soak takes its time": (SOAKING, STAY),
    "a soak ends": (replace(SOAKING, soak_ends_at=BEFORE), to(PhaseState.PASSED)),
    "a late failure in the soak trips it": (replace(SOAKING, counts=PhaseCounts(10, 9, 1)), MISSED),
    "late failures in the soak exceed the error threshold": (replace(SOAKING, counts=PhaseCounts(10, 8, 2)), ERROR),
    "a late failure at the gate trips it": (
        replace(SOAKING, state=PhaseState.GATE, counts=PhaseCounts(10, 9, 1)),
        MISSED,
    ),
    "an operator decides at the gate": (replace(SOAKING, state=PhaseState.GATE, soak_ends_at=BEFORE), STAY),
    "the last phase waits for everybody": (replace(LAST, counts=PhaseCounts(100, 99)), STAY),
    "the last phase passes": (LAST, to(PhaseState.PASSED)),
    "without a gate": (replace(LAST, manual_gate=True), to(PhaseState.PASSED)),
    "the last phase soaks": (replace(LAST, soak_seconds=60), to(PhaseState.SOAKING)),
    "the last phase misses": (replace(LAST, counts=PhaseCounts(100, 94, 6), thresholds=Thresholds(95, 10)), MISSED),
    "all devices ended, none of them well": (replace(LAST, counts=PhaseCounts(3, 0, 3)), ERROR),
}


@pytest.mark.parametrize(("situation", "decision"), TABLE.values(), ids=TABLE)
def test_what_a_phase_does_next(situation: Situation, decision: Decision) -> None:
    assert decide(situation, NOW) == decision
