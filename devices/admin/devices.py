"""Devices in the admin: what they report, and what operators decide about them."""

from contextlib import suppress
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.postgres.fields import ArrayField
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.html import format_html_join
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextInputWidget

from devices.admin.filters import Liveness, Tag
from devices.models import Device, DeviceState, HeartbeatSample
from foundation.adminsite.base import OperatorAdmin, actor_of, is_confirmed
from foundation.events.models import Event
from foundation.formatting import EMPTY, age, value_list

HISTORY_SHOWN = 15
STATE_COLOURS = {"accepted": "success", "pending": "warning", "decommissioned": "danger"}
REPORTED = (
    "shown_liveness", "shown_heard", "status", "device_type", "agent_version", "boot_id", "shown_running_bundles",
    "shown_metrics", "shown_attributes", "shown_hardware",
)  # fmt: skip
IDENTITY = ("id", "shown_state", "public_key", "registered_at", "accepted_at", "decommissioned_at")


@admin.register(Device)
class DeviceAdmin(OperatorAdmin):
    list_display = (
        "__str__", "shown_state", "shown_liveness", "group", "shown_runs", "device_type", "shown_heard",
    )  # fmt: skip
    list_select_related = ("group",)
    list_filter = ("state", Liveness, "group", Tag)
    search_fields = ("name", "id", "device_type")
    offered_permissions = ("view", "change")
    actions: tuple[str, ...] = ("approve", "reject", "decommission")
    fieldsets = (
        ("What operators decide", {"fields": ("name", "group", "tags")}),
        ("What the device reports", {"fields": REPORTED}),
        ("Identity", {"fields": IDENTITY}),
    )
    readonly_fields = (*REPORTED, *IDENTITY)
    formfield_overrides = {ArrayField: {"widget": UnfoldAdminTextInputWidget, "help_text": "Separated by commas."}}
    change_form_after_template = "devices/device_history.html"
    empty_text = "No device has registered yet. Make an enrolment token, and give it to the device's agent."

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # devices enrol themselves

    def buttons_for(self, obj: Device) -> dict[str, str]:
        if obj.state == DeviceState.PENDING:
            return {"approve": "Approve", "reject": "Reject"}
        if obj.state == DeviceState.ACCEPTED:
            return {"decommission": "Decommission"}
        return {}

    def save_model(self, request: HttpRequest, obj: Device, form: Any, change: bool) -> None:
        obj.edit(actor_of(request), **{name: form.cleaned_data[name] for name in form.changed_data})

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> HttpResponse:
        context = dict(kwargs.pop("extra_context", None) or {})
        with suppress(ValueError):  # not a UUID: Django says that there is no such device
            context |= self.history_of(UUID(object_id))
        return super().change_view(request, object_id, *args, extra_context=context, **kwargs)

    def history_of(self, device_id: UUID) -> dict[str, Any]:
        """Return what the page shows below the form: the device's latest events and sampled heartbeats."""
        return {
            "events": Event.objects.filter(device_id=device_id)[:HISTORY_SHOWN],
            "samples": HeartbeatSample.objects.filter(device_id=device_id)[:HISTORY_SHOWN],
        }

    @display(description="state", ordering="state", label=STATE_COLOURS)
    def shown_state(self, device: Device) -> str:
        return device.state

    @display(description="liveness", label={"online": "success", "offline": "danger"})
    def shown_liveness(self, device: Device) -> str | None:
        if device.state != DeviceState.ACCEPTED:
            return None
        return "online" if device.is_online else "offline"

    @display(description="last heartbeat", ordering="last_heartbeat_at")
    def shown_heard(self, device: Device) -> str:
        return age(device.last_heartbeat_at) if device.last_heartbeat_at else "never"

    @display(description="runs")
    def shown_runs(self, device: Device) -> str:
        running = device.running_bundles.items()
        return ", ".join(
            f"{name} {one.get('version')}{'' if one.get('healthy') else ' (unhealthy)'}" for name, one in running
        ) or EMPTY  # fmt: skip

    @display(description="running bundles")
    def shown_running_bundles(self, device: Device) -> str:
        lines = (
            (
                name,
                one.get("version"),
                "healthy" if one.get("healthy") else "unhealthy",
                value_list(one.get("verdict") or {}),
            )
            for name, one in sorted(device.running_bundles.items())
        )
        return format_html_join("", "<p>{} {}, {}</p>{}", lines) or EMPTY

    @display(description="metrics")
    def shown_metrics(self, device: Device) -> str:
        return value_list(device.metrics)

    @display(description="attributes")
    def shown_attributes(self, device: Device) -> str:
        return value_list(device.attributes)

    @display(description="hardware")
    def shown_hardware(self, device: Device) -> str:
        return value_list(device.hardware)

    @admin.action(description="Approve: let them in", permissions=["change"])
    def approve(self, request: HttpRequest, queryset: QuerySet[Device]) -> HttpResponse | None:
        return self.decide(
            request, queryset, "approve", "Approve devices", "Approved",
            "They are offered deployments from their next heartbeat on.",
        )  # fmt: skip

    @admin.action(description="Reject: turn them away for good", permissions=["change"])
    def reject(self, request: HttpRequest, queryset: QuerySet[Device]) -> HttpResponse | None:
        consequence = "Their keys are refused for good. A rejected machine has to enrol again with a new key."
        return self.decide(request, queryset, "reject", "Reject devices", "Rejected", consequence)

    @admin.action(description="Decommission: put them out of service for good", permissions=["change"])
    def decommission(self, request: HttpRequest, queryset: QuerySet[Device]) -> HttpResponse | None:
        return self.decide(
            request, queryset, "decommission", "Decommission devices", "Decommissioned",
            "They get nothing any more, and their keys are refused for good. What runs on them keeps running.",
        )  # fmt: skip

    def decide(
        self, request: HttpRequest, queryset: QuerySet[Device], verb: str, title: str, done: str, consequence: str
    ) -> HttpResponse | None:
        """Ask, then call the device's method of that name."""
        if not is_confirmed(request):
            is_final = verb != "approve"
            return self.ask(
                request, queryset, action=verb, title=title, consequence=consequence, is_final=is_final
            )  # fmt: skip
        self.attempt(request, queryset, lambda device: getattr(device, verb)(actor_of(request)), done)
        return None
