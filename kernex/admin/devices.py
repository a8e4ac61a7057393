"""Devices, groups and enrolment tokens in the admin."""

import json
from typing import Any
from uuid import UUID

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.html import format_html
from unfold.decorators import display
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from bundles.models import Bundle
from deployments import rollout
from deployments.models import DeviceDeployment
from devices.groups import EnrolmentToken, Group
from devices.models import Device, DeviceState, HeartbeatSample
from kernex.admin.filters import Liveness, Tag
from kernex.admin.manners import Page, actor_of, is_confirmed
from kernex.errors import ApiError
from kernex.events.models import Event

HISTORY_SHOWN = 15
STATE_COLOURS = {"accepted": "success", "pending": "warning", "decommissioned": "danger"}
REPORTED = (
    "device_type", "agent_version", "status", "shown_running_bundles", "shown_metrics", "shown_attributes",
    "shown_hardware", "last_heartbeat_at", "boot_id",
)  # fmt: skip


class DeployForm(forms.Form):
    """Which bundle the chosen devices are to run."""

    bundle = forms.ModelChoiceField(
        Bundle.objects.none(), empty_label="Choose a bundle", widget=UnfoldAdminSelectWidget
    )
    note = forms.CharField(max_length=500, required=False, widget=UnfoldAdminTextInputWidget)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["bundle"].queryset = Bundle.objects.ready().defer("manifest")  # type: ignore[attr-defined]


def as_json(value: object) -> str:
    """A reported value as people read it."""
    if not value:
        return "-"
    return format_html('<pre class="whitespace-pre-wrap text-xs">{}</pre>', json.dumps(value, indent=2, sort_keys=True))


@admin.register(Device)
class DeviceAdmin(Page):
    list_display = (
        "__str__",
        "shown_state",
        "shown_liveness",
        "group",
        "shown_runs",
        "device_type",
        "last_heartbeat_at",
    )
    list_select_related = ("group",)
    list_filter = ("state", Liveness, "group", Tag)
    search_fields = ("name", "id", "device_type")
    actions = ("approve", "reject", "decommission", "deploy")
    fieldsets = (
        ("What operators decide", {"fields": ("name", "group", "tags")}),
        ("Identity", {"fields": ("id", "shown_state", "public_key", "registered_at", "accepted_at")}),
        ("What the device reports", {"fields": REPORTED}),
    )
    readonly_fields = ("id", "shown_state", "public_key", "registered_at", "accepted_at", *REPORTED)
    change_form_after_template = "kernex/device_history.html"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # devices enrol themselves

    def save_model(self, request: HttpRequest, obj: Device, form: Any, change: bool) -> None:
        obj.edit(actor_of(request), **{name: form.cleaned_data[name] for name in form.changed_data})

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> HttpResponse:
        more = {**(kwargs.pop("extra_context", None) or {}), **self.history_of(object_id)}
        return super().change_view(request, object_id, *args, extra_context=more, **kwargs)

    def history_of(self, object_id: str) -> dict[str, Any]:
        """Events and deployments of one device, newest first."""
        try:
            device_id = UUID(object_id)
        except ValueError:
            return {}
        rows = DeviceDeployment.objects.filter(device_id=device_id).select_related("deployment__bundle")
        return {
            "events": Event.objects.filter(device_id=device_id)[:HISTORY_SHOWN],
            "device_deployments": rows.order_by("-created_at")[:HISTORY_SHOWN],
            "samples": HeartbeatSample.objects.filter(device_id=device_id)[:HISTORY_SHOWN],
        }

    @display(description="state", ordering="state", label=STATE_COLOURS)
    def shown_state(self, device: Device) -> str:
        return device.state

    @display(description="liveness", label={"online": "success", "offline": "danger"})
    def shown_liveness(self, device: Device) -> str:
        if device.state != DeviceState.ACCEPTED:
            return "-"
        return "online" if device.is_online else "offline"

    @display(description="runs")
    def shown_runs(self, device: Device) -> str:
        running = device.running_bundles.items()
        return ", ".join(
            f"{name} {one.get('version')}{'' if one.get('healthy') else ' (unhealthy)'}" for name, one in running
        ) or "-"  # fmt: skip

    @display(description="running bundles")
    def shown_running_bundles(self, device: Device) -> str:
        return as_json(device.running_bundles)

    @display(description="metrics")
    def shown_metrics(self, device: Device) -> str:
        return as_json(device.metrics)

    @display(description="attributes")
    def shown_attributes(self, device: Device) -> str:
        return as_json(device.attributes)

    @display(description="hardware")
    def shown_hardware(self, device: Device) -> str:
        return as_json(device.hardware)

    @admin.action(description="Approve: let these devices in", permissions=["change"])
    def approve(self, request: HttpRequest, queryset: QuerySet[Device]) -> HttpResponse | None:
        return self.decide(
            request, queryset, "approve", "Approve devices",
            "They may send heartbeats and are offered deployments from now on.",
        )  # fmt: skip

    @admin.action(description="Reject: turn these devices away", permissions=["change"])
    def reject(self, request: HttpRequest, queryset: QuerySet[Device]) -> HttpResponse | None:
        return self.decide(request, queryset, "reject", "Reject devices", "Their keys stay out for good.")

    @admin.action(description="Decommission: put these devices out of service", permissions=["change"])
    def decommission(self, request: HttpRequest, queryset: QuerySet[Device]) -> HttpResponse | None:
        return self.decide(
            request, queryset, "decommission", "Decommission devices",
            "They get nothing any more, and their keys stay out for good. What runs on them keeps running.",
        )  # fmt: skip

    def decide(
        self, request: HttpRequest, queryset: QuerySet[Device], verb: str, title: str, consequence: str
    ) -> HttpResponse | None:
        """Ask, then call the device's method of that name."""
        if not is_confirmed(request):
            return self.ask(request, queryset, action=verb, title=title, consequence=consequence)
        self.attempt(request, queryset, lambda device: getattr(device, verb)(actor_of(request)), f"{title}, done")
        return None

    @admin.action(description="Deploy a bundle to these devices", permissions=["change"])
    def deploy(self, request: HttpRequest, queryset: QuerySet[Device]) -> HttpResponse | None:
        form = DeployForm(request.POST if is_confirmed(request) else None)
        if not is_confirmed(request) or not form.is_valid():
            return self.ask(
                request, queryset, action="deploy", title="Deploy a bundle", form=form,
                consequence="Each device installs the bundle, checks its health, and goes back if it is not well.",
            )  # fmt: skip
        try:
            deployment = rollout.start(
                form.cleaned_data["bundle"],
                devices=list(queryset.values_list("pk", flat=True)),
                actor=actor_of(request),
                created_by=request.user if request.user.is_authenticated else None,
                note=form.cleaned_data["note"],
            )
        except ApiError as error:
            self.message_user(request, error.message, messages.ERROR)
        else:
            self.message_user(request, f"{deployment.bundle} is being deployed.", messages.SUCCESS)
        return None


@admin.register(Group)
class GroupAdmin(Page):
    list_display = ("name", "description", "interval_seconds", "created_at")
    search_fields = ("name", "description")
    fields = ("name", "description", "interval_seconds")

    def save_model(self, request: HttpRequest, obj: Group, form: Any, change: bool) -> None:
        if change:
            obj.edit(actor_of(request), **{name: form.cleaned_data[name] for name in form.changed_data})
        else:
            obj.pk = Group.make(actor_of(request), **form.cleaned_data).pk
            obj.refresh_from_db()


@admin.register(EnrolmentToken)
class EnrolmentTokenAdmin(Page):
    list_display = ("name", "group", "shown_uses", "accepts_at_once", "expires_at", "revoked_at")
    list_select_related = ("group",)
    list_filter = ("group", "accepts_at_once")
    search_fields = ("name",)
    fields = ("name", "group", "uses_allowed", "expires_at", "accepts_at_once")
    actions = ("revoke",)

    def has_change_permission(self, request: HttpRequest, obj: EnrolmentToken | None = None) -> bool:
        return obj is None and super().has_change_permission(request, obj)

    @display(description="uses")
    def shown_uses(self, token: EnrolmentToken) -> str:
        return f"{token.uses} of {token.uses_allowed}"

    def save_model(self, request: HttpRequest, obj: EnrolmentToken, form: Any, change: bool) -> None:
        made, secret = EnrolmentToken.issue(**form.cleaned_data, created_by=request.user, actor=actor_of(request))
        obj.pk = made.pk
        request.secret_to_show = secret  # type: ignore[attr-defined]

    def response_add(self, request: HttpRequest, obj: EnrolmentToken, *args: Any, **kwargs: Any) -> HttpResponse:
        """The one page that shows the token."""
        context = {
            **self.admin_site.each_context(request),
            "title": f"The enrolment token {obj.name}",
            "secret": request.secret_to_show,  # type: ignore[attr-defined]
            "server": settings.PUBLIC_URL,
            "opts": self.opts,
        }
        answer = TemplateResponse(request, "kernex/secret.html", context)
        answer["Cache-Control"] = "no-store"
        return answer

    @admin.action(description="Revoke these tokens", permissions=["add"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[EnrolmentToken]) -> HttpResponse | None:
        if not is_confirmed(request):
            consequence = "No device can register with them any more. Devices that did stay."
            return self.ask(request, queryset, action="revoke", title="Revoke tokens", consequence=consequence)
        self.attempt(request, queryset, lambda token: token.revoke(actor_of(request)), "Revoked")
        return None
