"""How far a deployment is, as a bar with one part for each state of its device deployments."""

from collections.abc import Mapping
from dataclasses import dataclass

from deployments.states import FINAL_STATES, UNSUCCESSFUL_STATES, DeviceDeploymentState

# From left to right: succeeded, failed, at work, waiting, cancelled.
ORDER = (
    DeviceDeploymentState.SUCCEEDED,
    *UNSUCCESSFUL_STATES,
    DeviceDeploymentState.CHECKING,
    DeviceDeploymentState.INSTALLING,
    DeviceDeploymentState.DOWNLOADING,
    DeviceDeploymentState.ACCEPTED,
    DeviceDeploymentState.OFFERED,
    DeviceDeploymentState.CANCELLING,
    DeviceDeploymentState.WAITING,
    DeviceDeploymentState.CANCELLED,
)


@dataclass(frozen=True, slots=True)
class Bar:
    """One part of the bar. `percent` is its share; `tone` is the name of its colour."""

    state: str
    count: int
    percent: float
    tone: str


def bars(counts: Mapping[str, int]) -> list[Bar]:
    """Return the parts of the bar, without empty ones."""
    total = sum(counts.values()) or 1
    return [
        Bar(state.replace("_", " "), counts[state], round(100 * counts[state] / total, 1), tone_of(state))
        for state in ORDER
        if counts.get(state)
    ]


def tone_of(state: str) -> str:
    if state == DeviceDeploymentState.SUCCEEDED:
        return "good"
    if state in UNSUCCESSFUL_STATES:
        return "bad"
    return "dim" if state in FINAL_STATES or state == DeviceDeploymentState.WAITING else "busy"
