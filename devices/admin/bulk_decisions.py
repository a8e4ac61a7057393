"""The admin of bulk decisions: their progress, and a way to stop them."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.decorators import display

from devices.models import BulkDecision, BulkDecisionState
from foundation.adminsite.base import Action, ReadOnlyAdmin

STATE_COLOURS = {"running": "info", "finished": "success", "stopped": "warning"}
STOP = Action(
    "stop",
    description="Stop: leave the remaining devices as they are",
    button="Stop",
    title="Stop bulk decisions",
    consequence="Devices that were processed stay as they are now. The others are left alone.",
    done="Stopped",
    act=lambda bulk_decision, actor: bulk_decision.stop(actor),
    permission="stop",
    is_final=True,
    applies_to=lambda bulk_decision: bulk_decision.state == BulkDecisionState.RUNNING,
)


@admin.register(BulkDecision)
class BulkDecisionAdmin(ReadOnlyAdmin):
    list_display = ("__str__", "shown_state", "shown_progress", "changed", "actor", "created_at")
    fields = readonly_fields = (
        "decision", "shown_state", "shown_progress", "changed", "actor", "created_at", "finished_at",
    )  # fmt: skip
    list_filter = ("state", "decision")
    actions = (STOP,)
    empty_text = "No bulk decisions yet. An action on many devices at once creates one."

    def get_queryset(self, request: HttpRequest) -> QuerySet[BulkDecision]:
        return super().get_queryset(request).defer("device_ids")

    def has_view_permission(self, request: HttpRequest, obj: BulkDecision | None = None) -> bool:
        """The same permission as for devices."""
        return self.has_right(request, "devices.view_device")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_stop_permission(self, request: HttpRequest) -> bool:
        return self.has_right(request, "devices.change_device")

    @display(description="state", ordering="state", label=STATE_COLOURS)
    def shown_state(self, bulk_decision: BulkDecision) -> Any:
        return bulk_decision.state

    @display(description="progress")
    def shown_progress(self, bulk_decision: BulkDecision) -> str:
        return f"{bulk_decision.processed:,} of {bulk_decision.total:,}"
