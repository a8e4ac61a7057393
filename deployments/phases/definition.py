"""Phases as an operator describes them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from deployments.phases.thresholds import DEFAULT_ERROR_PERCENT, DEFAULT_SUCCESS_PERCENT
from foundation.errors import BadRequest

MAX_PHASES = 20


@dataclass(frozen=True, slots=True)
class PhaseDefinition:
    """One phase. `percent` of all devices, or `count` devices, have received the bundle at its end.

    Both are cumulative: after a phase of 10 %, a phase of 30 % adds a fifth of all devices. The last phase has neither,
    and takes all devices that remain.
    """

    percent: int | None = None
    count: int | None = None
    success_threshold_percent: int = DEFAULT_SUCCESS_PERCENT
    error_threshold_percent: int = DEFAULT_ERROR_PERCENT
    soak_seconds: int = 0
    manual_gate: bool = False

    @property
    def is_last(self) -> bool:
        return self.percent is None and self.count is None


def parse_sizes(text: str) -> list[PhaseDefinition]:
    """Return phases of the sizes `1%, 25%, 100%` or `5, 50, all`. An empty text is a single phase.

    Raises `BadRequest` (`bad_phases`).
    """
    *sizes, last = [size.strip() for size in text.split(",")]
    if last not in ("", "all", "100%"):
        raise BadRequest("bad_phases", "The last phase takes all devices: end the list with 100% or all.")
    return [*map(_parse_size, sizes), PhaseDefinition()]


def _parse_size(text: str) -> PhaseDefinition:
    match = re.fullmatch(r"([1-9][0-9]{0,6}) ?(%?)", text)
    if match is None or (match[2] and int(match[1]) > 100):
        raise BadRequest("bad_phases", f"{text!a} is not the size of a phase: write 10% or 50.")
    return PhaseDefinition(percent=int(match[1])) if match[2] else PhaseDefinition(count=int(match[1]))


def check_phases(phases: Sequence[PhaseDefinition]) -> None:
    """Raise `BadRequest` (`bad_phases`) unless every phase adds devices, and the last one takes all that remain."""
    if not 1 <= len(phases) <= MAX_PHASES:
        raise BadRequest("bad_phases", f"A deployment has 1 to {MAX_PHASES} phases.")
    for number, phase in enumerate(phases, start=1):
        if phase.percent is not None and phase.count is not None:
            raise BadRequest("bad_phases", f"Phase {number} must have either `percent` or `count`.", phase=number)
        if phase.is_last != (number == len(phases)):
            message = "The last phase takes all remaining devices; every other phase needs `percent` or `count`."
            raise BadRequest("bad_phases", message, phase=number)
    for sizes in ([phase.percent for phase in phases], [phase.count for phase in phases]):
        named = [size for size in sizes if size is not None]
        if named != sorted(set(named)):
            raise BadRequest("bad_phases", "Each phase must be larger than the one before: sizes are cumulative.")
