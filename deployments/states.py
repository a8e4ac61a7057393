"""The states of deployments, phases and device deployments, and which may follow which.

    waiting ──► offered ──► accepted ──► downloading ──► installing ──► checking ──► succeeded | failed |
       │           │            │             │              │             │         rolled_back | rejected
       │           └────────────┴──────┬──────┴──────────────┴─────────────┘
       │                               ├── operator cancels ──► cancelling ──► cancelled, or the device's word
       └── operator cancels ─► cancelled └── deadline ──► timed_out  (cancelling: cancelled)

A device that is decommissioned ends all its ways as `cancelled`.
"""

from django.db.models import TextChoices


class DeploymentState(TextChoices):
    RUNNING = "running", "running"
    CANCELLED = "cancelled", "cancelled"
    FINISHED = "finished", "finished"


class PhaseState(TextChoices):
    WAITING = "waiting", "waiting"
    OPEN = "open", "open"
    FINISHED = "finished", "finished"


class DeviceDeploymentState(TextChoices):
    WAITING = "waiting", "waiting"
    OFFERED = "offered", "offered"
    ACCEPTED = "accepted", "accepted"
    DOWNLOADING = "downloading", "downloading"
    INSTALLING = "installing", "installing"
    CHECKING = "checking", "checking"
    CANCELLING = "cancelling", "cancelling"
    SUCCEEDED = "succeeded", "succeeded"
    FAILED = "failed", "failed"
    ROLLED_BACK = "rolled_back", "rolled back"
    REJECTED = "rejected", "rejected"
    TIMED_OUT = "timed_out", "timed out"
    CANCELLED = "cancelled", "cancelled"


# A device walks these in order; it may skip some, and never goes back.
STEPS = ("offered", "accepted", "downloading", "installing", "checking")
# The device holds, or may hold, the command: one such row per device and product.
ACTIVE = (*STEPS, "cancelling")
# Final for ever.
FINISHED = ("succeeded", "failed", "rolled_back", "rejected", "timed_out", "cancelled")
UNFINISHED = ("waiting", *ACTIVE)
# Ended otherwise than the operator wished, and not because the operator wished it.
UNSUCCESSFUL = ("failed", "rolled_back", "rejected", "timed_out")
# The last words that a device may say, in whatever step it is.
LAST_WORDS = ("succeeded", "failed", "rolled_back", "rejected", "cancelled")
# What a device may say at all.
REPORTED = (*STEPS[1:], *LAST_WORDS)

MOVES: dict[str, frozenset[str]] = {
    "waiting": frozenset({"offered", "cancelled"}),
    "cancelling": frozenset(LAST_WORDS),
    **{
        step: frozenset({*STEPS[place + 1 :], "cancelling", "timed_out", *LAST_WORDS})
        for place, step in enumerate(STEPS)
    },
    **{state: frozenset() for state in FINISHED},
}


def sources_of(state: str) -> tuple[str, ...]:
    """From which states `state` may be reached."""
    return tuple(source for source, targets in MOVES.items() if state in targets)


def after_report(current: str, said: str) -> str:
    """The state after a device said `said`: forward, or unchanged. A last word always counts while none was said."""
    if said in LAST_WORDS or current != "cancelling":
        return said if said in MOVES[current] else current
    return current


def passed(current: str, target: str) -> tuple[str, ...]:
    """The steps from behind `current` up to `target`, skipped ones included. None for what is no step."""
    if current not in STEPS or target not in STEPS:
        return ()
    return STEPS[STEPS.index(current) + 1 : STEPS.index(target) + 1]
