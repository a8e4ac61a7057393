"""How far a deployment is, as a bar: one part for each state that a device is in."""

from collections.abc import Mapping
from typing import Any

from deployments.states import FINISHED, UNSUCCESSFUL

# From the left: what went well, what did not, who is at work, who waits.
ORDER = (
    "succeeded", *UNSUCCESSFUL, "checking", "installing", "downloading", "accepted", "offered", "cancelling",
    "waiting", "cancelled",
)  # fmt: skip


def bars(counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """Of each state its name, how many devices are in it, what share in percent, and its tone."""
    total = sum(counts.values()) or 1
    return [
        {"state": name.replace("_", " "), "count": counts[name], "percent": round(100 * counts[name] / total, 1),
         "tone": tone_of(name)}
        for name in ORDER if counts.get(name)
    ]  # fmt: skip


def tone_of(state: str) -> str:
    if state == "succeeded":
        return "good"
    if state in UNSUCCESSFUL:
        return "bad"
    return "dim" if state in FINISHED or state == "waiting" else "busy"
