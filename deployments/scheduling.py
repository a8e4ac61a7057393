"""The time-driven steps of this room."""

from kernex.scheduling import Step

STEPS: list[Step] = []
