"""The states of devices, and the decisions of operators that change them.

register ──► pending ──approve──► accepted
                │                    │
                │ reject,            │ decommission
                │ decommission       ▼
                └──────────► decommissioned
"""

from dataclasses import dataclass

from django.db.models import TextChoices

from foundation.state_machine import Transitions


class DeviceState(TextChoices):
    PENDING = "pending", "pending"
    ACCEPTED = "accepted", "accepted"
    DECOMMISSIONED = "decommissioned", "decommissioned"


DEVICE_TRANSITIONS = Transitions({
    DeviceState.PENDING: {DeviceState.ACCEPTED, DeviceState.DECOMMISSIONED},
    DeviceState.ACCEPTED: {DeviceState.DECOMMISSIONED},
    DeviceState.DECOMMISSIONED: set(),
})  # fmt: skip


class Decision(TextChoices):
    """What an operator may decide about a device's state."""

    APPROVE = "approve", "approve"
    REJECT = "reject", "reject"
    DECOMMISSION = "decommission", "decommission"


@dataclass(frozen=True, slots=True)
class DecisionRule:
    """A decision moves devices from `sources` to `target`. `participle` names it in events and messages."""

    sources: tuple[DeviceState, ...]
    target: DeviceState
    participle: str


DECISION_RULES = {
    Decision.APPROVE: DecisionRule((DeviceState.PENDING,), DeviceState.ACCEPTED, "approved"),
    Decision.REJECT: DecisionRule((DeviceState.PENDING,), DeviceState.DECOMMISSIONED, "rejected"),
    Decision.DECOMMISSION: DecisionRule(
        (DeviceState.PENDING, DeviceState.ACCEPTED), DeviceState.DECOMMISSIONED, "decommissioned"
    ),
}
