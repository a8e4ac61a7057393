"""What a time-driven step is. Each room lists its own as `STEPS` in its module `scheduling`."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """`function` moves what is due and returns how many things it moved; it is called every so often."""

    name: str
    function: Callable[[], int]
    every_seconds: float
