"""What a deployment does now and what happens next, as sentences and tables for people."""

from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone

from deployments.models import Deployment, DeploymentState, Phase, PhaseState
from deployments.phases.survey import Survey, survey
from deployments.phases.thresholds import PhaseCounts
from deployments.progress import Segment
from deployments.states import OPEN_PHASE_STATES, PauseReason
from foundation.formatting import duration

PAUSED = {
    PauseReason.OPERATOR: "An operator paused the deployment. Nothing is offered until it is resumed.",
    PauseReason.MANUAL_GATE: "{phase} has succeeded and waits at its gate. Promote it to begin the next phase.",
    PauseReason.SUCCESS_MISSED: "{phase} tripped: too few of its devices can still succeed. Resume with a decision.",
    PauseReason.ERROR_THRESHOLD: "{phase} tripped: too many devices failed. Resume with a decision.",
    PauseReason.NOT_ENOUGH_DEVICES: "{phase} found too few reachable devices. Resume to wait for more.",
}


@dataclass(frozen=True, slots=True)
class PhaseLine:
    """One phase as a line of a table. `style` is the name of its colour, `devices` such as `3 of 10`.

    `segments` are its bar: the shares of its devices that are good, bad, lost and at work.
    """

    title: str
    state: str
    style: str
    devices: str
    results: str
    rule: str
    segments: list[Segment]


def describe(deployment: Deployment) -> tuple[str, list[PhaseLine]]:
    """Return what happens next, empty after the end, and a line for each phase."""
    each = survey([deployment])[0]
    return next_step(each), [_line(each, phase) for phase in each.phases]


def next_step(each: Survey) -> str:
    """Return what the deployment waits for, as a sentence. Empty after its end."""
    deployment = each.deployment
    if deployment.finished_at is not None:
        return ""
    if deployment.state == DeploymentState.PLANNING:
        return "The scheduler goes through the selected devices."
    if deployment.state == DeploymentState.SCHEDULED:
        return f"The deployment begins in {_time_left(deployment.start_at)}."
    if deployment.state == DeploymentState.CANCELLED:
        return "The deployment was cancelled. Devices at work stop, finish or roll back."
    if deployment.state == DeploymentState.ROLLING_BACK:
        return "The deployment is being rolled back. Devices at work stop, or return when they have finished."
    tripped = next((phase for phase in each.phases if phase.state == PhaseState.TRIPPED), None)
    if deployment.state == DeploymentState.PAUSED:
        phase = tripped or each.current
        return PAUSED[PauseReason(deployment.pause_reason)].format(phase=_name(each, phase) if phase else "It")
    phase = each.current
    step = _progress(each, phase) if phase else "All phases have ended; the deployment finishes."
    if deployment.stalled_at is not None:
        return f"{step} It has made no progress for {_time_since(deployment.stalled_at)}; its events say why."
    return step


def _progress(each: Survey, phase: Phase) -> str:
    name, counts = _name(each, phase), each.counts_of(phase)
    if phase.state == PhaseState.FILLING and not phase.is_last:
        time = f" for up to {_time_left(phase.fill_ends_at)}" if phase.fill_ends_at else ""
        return f"{name} admits devices. It waits for {each.missing(phase)} more{time}."
    if phase.state == PhaseState.SOAKING:
        time = f" for another {_time_left(phase.soak_ends_at)}" if phase.soak_ends_at else ""
        return f"{name} has succeeded. Its devices are observed{time}."
    if phase.state == PhaseState.PENDING:
        return f"{name} begins."
    return f"{name} waits for the results of {_devices(counts.unfinished)}."


def _line(each: Survey, phase: Phase) -> PhaseLine:
    counts = each.counts_of(phase)
    results = [(counts.good, "good"), (counts.bad, "bad"), (counts.lost, "lost"), (phase.evicted, "evicted")]
    soak = f", soaks for {duration(phase.soak_seconds)}" if phase.soak_seconds else ""
    gate = ", then waits for an operator" if phase.manual_gate and not phase.is_last else ""
    return PhaseLine(
        title=f"Phase {phase.number}",
        state=PhaseState(phase.state).label if phase.state in PhaseState.values else phase.state,
        style=_style(phase),
        devices=f"{counts.admitted} of {_target(each, phase)}" if phase.device_count else _size(phase),
        results=", ".join(f"{count} {name}" for count, name in results if count),
        rule=f"needs {phase.success_threshold_percent} % good, trips above {phase.error_threshold_percent} % bad"
        + soak
        + gate,
        segments=_segments(counts, _target(each, phase)),
    )


def _segments(counts: PhaseCounts, target: int) -> list[Segment]:
    parts = [("good", counts.good), ("bad", counts.bad), ("warn", counts.lost), ("busy", counts.unfinished)]
    names = {"warn": "lost", "busy": "at work or waiting"}
    return [
        Segment(names.get(style, style), count, round(100 * count / max(target, 1), 1), style)
        for style, count in parts
        if count
    ]


def _target(each: Survey, phase: Phase) -> int:
    """Return how many devices the phase has when it is full."""
    before = [other.device_count for other in each.phases if other.number == phase.number - 1]
    return max(phase.device_count - (before[0] if before else 0), each.counts_of(phase).admitted)


def _size(phase: Phase) -> str:
    if phase.percent is not None:
        return f"{phase.percent} %"
    return str(phase.count) if phase.count is not None else "all"


def _style(phase: Phase) -> str:
    if phase.state == PhaseState.PASSED:
        return "good"
    if phase.state == PhaseState.TRIPPED:
        return "bad"
    return "busy" if phase.state in OPEN_PHASE_STATES else "dim"


def _name(each: Survey, phase: Phase) -> str:
    return f"Phase {phase.number} of {len(each.phases)}" if len(each.phases) > 1 else "The deployment"


def _devices(count: int) -> str:
    return "1 device" if count == 1 else f"{count} devices"


def _time_since(stalled_at: datetime) -> str:
    """Return how long a deployment has made no progress. It is noticed an hour after the last."""
    return duration((timezone.now() - stalled_at).total_seconds() + 3600)


def _time_left(end: datetime | None) -> str:
    return "a moment" if end is None else duration((end - timezone.now()).total_seconds())
