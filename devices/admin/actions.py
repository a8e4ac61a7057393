"""The actions that operators apply to devices."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from devices.models import BulkDecision, Decision, Device, DeviceState, LogRequest
from devices.models.device_state import DECISION_RULES
from foundation.adminsite.base import Action, actor_of, is_confirmed

if TYPE_CHECKING:
    from foundation.adminsite.base import OperatorAdmin

# How many devices one request changes itself. Decisions about more devices are left to the scheduler.
MAX_AT_ONCE = 200


def exceeds_limit(objects: QuerySet[Any]) -> bool:
    """Return whether these are more objects than one request may change. Stops counting there."""
    return objects.order_by()[: MAX_AT_ONCE + 1].count() > MAX_AT_ONCE


@dataclass(frozen=True)
class DecisionAction(Action):
    """A decision about devices. For many devices it is recorded, and the scheduler carries it out in batches."""

    decision: Decision = Decision.APPROVE

    def __call__(self, page: "OperatorAdmin", request: HttpRequest, objects: QuerySet[Any]) -> HttpResponse | None:
        if not is_confirmed(request) or not exceeds_limit(objects):
            return super().__call__(page, request, objects)
        bulk_decision = BulkDecision.record(self.decision, objects, actor_of(request))
        message = f"The scheduler does this for {bulk_decision.total:,} devices. This page shows its progress."
        page.message_user(request, message, messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:devices_bulkdecision_change", args=[bulk_decision.pk]))


class LimitedAction(Action):
    """An action for at most `MAX_AT_ONCE` devices."""

    def __call__(self, page: "OperatorAdmin", request: HttpRequest, objects: QuerySet[Any]) -> HttpResponse | None:
        if exceeds_limit(objects):
            page.message_user(request, f"Choose at most {MAX_AT_ONCE} devices for this.", messages.ERROR)
            return None
        return super().__call__(page, request, objects)


def is_pending(device: Device) -> bool:
    return device.state == DeviceState.PENDING


def is_accepted(device: Device) -> bool:
    return device.state == DeviceState.ACCEPTED


def decision_action(
    decision: Decision,
    *,
    meaning: str,
    consequence: str,
    applies_to: Callable[[Device], bool],
    is_final: bool = False,
) -> DecisionAction:
    """Return the action for one decision. `meaning` explains it in the list of actions."""
    verb = decision.label.capitalize()
    return DecisionAction(
        decision.value,
        description=f"{verb}: {meaning}",
        button=verb,
        title=f"{verb} devices",
        consequence=consequence,
        done=DECISION_RULES[decision].participle.capitalize(),
        act=lambda device, actor: device.decide(decision, actor),
        is_final=is_final,
        applies_to=applies_to,
        decision=decision,
    )


APPROVE = decision_action(
    Decision.APPROVE,
    meaning="accept them",
    consequence="They are offered deployments from their next heartbeat on.",
    applies_to=is_pending,
)
REJECT = decision_action(
    Decision.REJECT,
    meaning="refuse them permanently",
    consequence="Their keys are refused permanently. A rejected machine must enrol again with a new key.",
    applies_to=is_pending,
    is_final=True,
)
DECOMMISSION = decision_action(
    Decision.DECOMMISSION,
    meaning="put them out of service permanently",
    consequence="They receive nothing more, and their keys are refused permanently. Their programs keep running.",
    applies_to=is_accepted,
    is_final=True,
)
COLLECT_LOGS = LimitedAction(
    "collect_logs",
    description="Collect logs",
    button="Collect logs",
    title="Collect logs",
    consequence="Each device sends the log of its agent and of its programs after its next heartbeat.",
    done="Asked for logs",
    act=lambda device, actor: LogRequest.open_for(device, actor=actor),
    applies_to=is_accepted,
)
