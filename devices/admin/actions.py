"""The actions that operators apply to devices."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from devices.models import BulkDecision, Decision, Device, DeviceState, LogRequest
from foundation.adminsite.base import Action, actor_of, is_confirmed

if TYPE_CHECKING:
    from foundation.adminsite.base import OperatorAdmin

# What a request does itself at most. The scheduler does the rest.
MOST_AT_ONCE = 200


def are_many(objects: QuerySet[Any]) -> bool:
    """Whether these are more objects than one request may change. Counts no further than that."""
    return objects.order_by()[: MOST_AT_ONCE + 1].count() > MOST_AT_ONCE


@dataclass(frozen=True)
class DecisionAction(Action):
    """A decision about devices. For many devices it is recorded, and the scheduler carries it out in batches."""

    decision: Decision = Decision.APPROVE

    def __call__(self, page: "OperatorAdmin", request: HttpRequest, objects: QuerySet[Any]) -> HttpResponse | None:
        if not is_confirmed(request) or not are_many(objects):
            return super().__call__(page, request, objects)
        bulk_decision = BulkDecision.record(self.decision, objects, actor_of(request))
        message = f"The scheduler does this for {bulk_decision.total:,} devices. This page shows its progress."
        page.message_user(request, message, messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:devices_bulkdecision_change", args=[bulk_decision.pk]))


class LimitedAction(Action):
    """An action for at most `MOST_AT_ONCE` devices."""

    def __call__(self, page: "OperatorAdmin", request: HttpRequest, objects: QuerySet[Any]) -> HttpResponse | None:
        if are_many(objects):
            page.message_user(request, f"Choose at most {MOST_AT_ONCE} devices for this.", messages.ERROR)
            return None
        return super().__call__(page, request, objects)


def is_pending(device: Device) -> bool:
    return device.state == DeviceState.PENDING


def is_accepted(device: Device) -> bool:
    return device.state == DeviceState.ACCEPTED


APPROVE = DecisionAction(
    "approve",
    description="Approve: accept them",
    button="Approve",
    title="Approve devices",
    consequence="They are offered deployments from their next heartbeat on.",
    done="Approved",
    act=lambda device, actor: device.approve(actor),
    applies_to=is_pending,
    decision=Decision.APPROVE,
)
REJECT = DecisionAction(
    "reject",
    description="Reject: refuse them for good",
    button="Reject",
    title="Reject devices",
    consequence="Their keys are refused for good. A rejected machine has to enrol again with a new key.",
    done="Rejected",
    act=lambda device, actor: device.reject(actor),
    is_final=True,
    applies_to=is_pending,
    decision=Decision.REJECT,
)
DECOMMISSION = DecisionAction(
    "decommission",
    description="Decommission: put them out of service for good",
    button="Decommission",
    title="Decommission devices",
    consequence="They receive nothing any more, and their keys are refused for good. What runs on them keeps running.",
    done="Decommissioned",
    act=lambda device, actor: device.decommission(actor),
    is_final=True,
    applies_to=is_accepted,
    decision=Decision.DECOMMISSION,
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
