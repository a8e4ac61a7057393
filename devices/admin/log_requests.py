"""The admin of collected logs: viewing and downloading them. A device's page links to them."""

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.decorators import display

from devices.log_views import log_response
from devices.models import LogRequest
from foundation.adminsite.base import ReadOnlyAdmin
from foundation.formatting import EMPTY, size

# How much of the text a page shows. The download has all of it.
SHOWN_CHARACTERS = 200_000
STATE_COLOURS = {
    "requested": "info", "collecting": "info", "complete": "success", "failed": "danger", "expired": "warning",
}  # fmt: skip


@admin.register(LogRequest)
class LogRequestAdmin(ReadOnlyAdmin):
    list_display = ("__str__", "device", "shown_state", "shown_size", "created_by", "created_at")
    list_select_related = ("device",)
    list_filter = ("state",)
    fields = readonly_fields = (
        "device", "shown_state", "reason", "shown_size", "batches", "created_by", "created_at", "finished_at",
        "expires_at", "download", "shown_text",
    )  # fmt: skip
    empty_text = "No logs yet. Collect them on the page of a device."

    def has_view_permission(self, request: HttpRequest, obj: LogRequest | None = None) -> bool:
        """The same permission as for devices."""
        return self.has_right(request, "devices.view_device")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def get_urls(self) -> list[URLPattern]:
        download = self.admin_site.admin_view(self.download_view)
        urls: list[URLPattern] = super().get_urls()
        return [path("<uuid:request_id>/text", download, name="devices_logrequest_text"), *urls]

    def download_view(self, request: HttpRequest, request_id: UUID) -> HttpResponseBase:
        """Send the whole text as a file."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        return log_response(get_object_or_404(LogRequest, pk=request_id))

    @display(description="state", ordering="state", label=STATE_COLOURS)
    def shown_state(self, log_request: LogRequest) -> str:
        return log_request.state

    @display(description="size", ordering="size")
    def shown_size(self, log_request: LogRequest) -> str:
        return size(log_request.size)

    @display(description="file")
    def download(self, log_request: LogRequest) -> SafeString | str:
        if not log_request.batches:
            return EMPTY
        url = reverse("admin:devices_logrequest_text", args=[log_request.pk])
        return format_html('<a href="{}">Download</a>', url)

    @display(description="text")
    def shown_text(self, log_request: LogRequest) -> Any:
        text, is_cut = beginning(log_request, SHOWN_CHARACTERS)
        if not text:
            return EMPTY
        note = format_html("<p>Only the beginning is shown here. Download the file for the rest.</p>") if is_cut else ""
        return format_html('<pre class="kx-secret">{}</pre>{}', text, note)


def beginning(log_request: LogRequest, max_length: int) -> tuple[str, bool]:
    """Return at most `max_length` characters of the text, and whether there are more."""
    text = ""
    for part in log_request.text():
        text += part
        if len(text) > max_length:
            return text[:max_length], True
    return text, False
