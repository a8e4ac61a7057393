"""The admin of devices: what they report, and what operators decide about them."""

from contextlib import suppress
from dataclasses import asdict
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import SEARCH_VAR
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html_join
from unfold.decorators import display
from unfold.views import ChangeList
from unfold.widgets import UnfoldAdminTextInputWidget

from devices.admin.actions import APPROVE, COLLECT_LOGS, DECOMMISSION, REJECT
from devices.admin.filters import HealthFilter, Liveness, Tag
from devices.export import export
from devices.models import Command, Device, DeviceState, Health, HeartbeatSample, LogRequest
from devices.queries.completion import Completion, complete
from devices.queries.filtering import condition_of, explanation, filter_devices, limited_time
from devices.serializers import ExportFormat
from foundation.adminsite.base import Action, OperatorAdmin, actor_of, refuse_nul
from foundation.errors import ApiError, BadRequest
from foundation.events.models import Event
from foundation.formatting import EMPTY, age, value_list
from foundation.queries.lexer import MAX_QUERY_SIZE

HISTORY_SHOWN = 15
STATE_COLOURS = {"accepted": "success", "pending": "warning", "decommissioned": "danger"}
REPORTED = (
    "shown_liveness", "shown_health", "complaints", "shown_last_heartbeat", "status", "device_type", "agent_version",
    "boot_id", "shown_running_bundles", "shown_metrics", "shown_attributes", "shown_hardware",
)  # fmt: skip
IDENTITY = ("id", "shown_state", "public_key", "registered_at", "accepted_at", "decommissioned_at")


class Search(ChangeList):
    """The filters and the search of the list, without its rows."""

    def get_results(self, request: HttpRequest) -> None:
        """Read no page."""


@admin.register(Device)
class DeviceAdmin(OperatorAdmin):
    list_display = (
        "__str__", "shown_state", "shown_condition", "group", "shown_runs", "device_type",
        "shown_last_heartbeat",
    )  # fmt: skip
    list_select_related = ("group",)
    list_filter = ("state", Liveness, HealthFilter, "group", "is_test", Tag)
    search_fields = ("name",)  # shows the search field; see `get_search_results`
    search_help_text = "A name, or a query such as: runs.vad < 1.4 and health = unhealthy"
    offered_permissions = ("view", "change")
    actions: tuple[Action | str, ...] = (APPROVE, REJECT, DECOMMISSION, COLLECT_LOGS)
    fieldsets = (
        ("What operators decide", {"fields": ("name", "group", "tags", "is_test")}),
        ("What the device reports", {"fields": REPORTED}),
        ("Identity", {"fields": IDENTITY}),
    )
    readonly_fields = (*REPORTED, *IDENTITY)
    formfield_overrides = {ArrayField: {"widget": UnfoldAdminTextInputWidget, "help_text": "Separated by commas."}}
    change_form_after_template = "devices/device_history.html"
    list_before_template = "devices/query_completion.html"
    list_after_template = "devices/export_links.html"

    class Media:
        css = {"all": ("devices/device_list.css",)}
        js = ("devices/query_completion.js",)

    empty_text = "No device has registered yet. Create an enrolment token and give it to the device's agent."

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list. A search that takes too long is refused with a message."""
        if request.method != "GET" or not request.GET.get(SEARCH_VAR):
            return super().changelist_view(request, extra_context)
        try:
            with limited_time():
                response = super().changelist_view(request, extra_context)
                return response.render() if isinstance(response, TemplateResponse) else response
        except BadRequest as error:
            self.message_user(request, error.message, messages.ERROR)
            return HttpResponseRedirect(request.path)

    def get_urls(self) -> list[URLPattern]:
        export_url = path(
            "export/<str:export_format>",
            self.admin_site.admin_view(self.export_view),
            name="devices_device_export",
        )
        completion_url = path(
            "complete", self.admin_site.admin_view(self.completion_view), name="devices_device_complete"
        )
        return [export_url, completion_url, *super().get_urls()]

    def completion_view(self, request: HttpRequest) -> HttpResponse:
        """Respond with how the query in `text` can go on."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        refuse_nul(request)
        text = request.GET.get("text", "")
        if len(text) > MAX_QUERY_SIZE:
            raise SuspiciousOperation("the query is too long")
        try:
            with limited_time():
                return JsonResponse(asdict(complete(text)))
        except BadRequest:  # too slow
            return JsonResponse(asdict(Completion(len(text), False, ())))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> Any:
        match = request.resolver_match
        is_export = match is not None and match.url_name == "devices_device_export"
        return Search if is_export else super().get_changelist(request, **kwargs)

    def export_view(self, request: HttpRequest, export_format: str) -> HttpResponseBase:
        """Export the devices that the list shows with the same filters and search. A wrong one is shown on the list."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        if export_format not in ExportFormat.values:
            raise Http404
        refuse_nul(request)
        try:
            query = request.GET.get(SEARCH_VAR, "")
            if query.strip():
                condition_of(query)
            devices = self.get_changelist_instance(request).get_queryset(request)
            return export(request, devices, ExportFormat(export_format))
        except ApiError as error:
            message = explanation(error) if isinstance(error, BadRequest) else error.message
            self.message_user(request, message, messages.ERROR)
        except IncorrectLookupParameters:
            self.message_user(request, "This list has no such filter.", messages.ERROR)
        return HttpResponseRedirect(reverse("admin:devices_device_changelist"))

    def get_search_results(
        self, request: HttpRequest, queryset: Any, search_term: str
    ) -> tuple[QuerySet[Device], bool]:
        """Search by a query. One that is wrong shows no device, and says where it is wrong."""
        try:
            return filter_devices(queryset, search_term), False
        except BadRequest as error:
            self.message_user(request, explanation(error), messages.ERROR)
            return queryset.none(), False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # devices enrol themselves

    def save_model(self, request: HttpRequest, obj: Device, form: Any, change: bool) -> None:
        obj.edit(actor_of(request), **{name: form.cleaned_data[name] for name in form.changed_data})

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> HttpResponse:
        context = dict(kwargs.pop("extra_context", None) or {})
        with suppress(ValueError):  # not a UUID: Django reports that there is no such device
            context |= self.history_of(UUID(object_id))
        return super().change_view(request, object_id, *args, extra_context=context, **kwargs)

    def history_of(self, device_id: UUID) -> dict[str, Any]:
        """Return what the page shows below the form: the latest commands, logs, events and sampled heartbeats."""
        return {
            "events": Event.objects.filter(device_id=device_id)[:HISTORY_SHOWN],
            "samples": HeartbeatSample.objects.filter(device_id=device_id)[:HISTORY_SHOWN],
            "commands": Command.objects.for_device(device_id).order_by("-id")[:HISTORY_SHOWN],
            "log_requests": LogRequest.objects.filter(device_id=device_id)[:HISTORY_SHOWN],
        }

    @display(description="state", ordering="state", label=STATE_COLOURS)
    def shown_state(self, device: Device) -> str:
        return device.state

    @display(description="liveness", label={"online": "success", "offline": "danger"})
    def shown_liveness(self, device: Device) -> str | None:
        if device.state != DeviceState.ACCEPTED:
            return None
        return "online" if device.is_online else "offline"

    @display(description="health", label={"healthy": "success", "restarting": "warning", "unhealthy": "danger"})
    def shown_health(self, device: Device) -> str | None:
        return None if device.health == Health.UNKNOWN else device.health.label

    @display(
        description="health",
        label={"healthy": "success", "restarting": "warning", "unhealthy": "danger", "offline": "danger"},
    )
    def shown_condition(self, device: Device) -> str | None:
        """Liveness and health in one column: an offline device has no other health."""
        return self.shown_liveness(device) if device.health == Health.UNKNOWN else device.health.label

    @display(description="what is wrong")
    def complaints(self, device: Device) -> str:
        return device.complaints or EMPTY

    @display(description="last heartbeat", ordering="last_heartbeat_at")
    def shown_last_heartbeat(self, device: Device) -> str:
        return age(device.last_heartbeat_at) if device.last_heartbeat_at else "never"

    @display(description="runs")
    def shown_runs(self, device: Device) -> str:
        labels = [
            f"{name} {bundle.get('version')}" + ("" if bundle.get("healthy") else " (unhealthy)")
            for name, bundle in device.running_bundles.items()
        ]
        return ", ".join(labels) or EMPTY

    @display(description="running bundles")
    def shown_running_bundles(self, device: Device) -> str:
        lines = (
            (
                name,
                bundle.get("version"),
                "healthy" if bundle.get("healthy") else "unhealthy",
                value_list(bundle.get("verdict") or {}),
            )
            for name, bundle in sorted(device.running_bundles.items())
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
