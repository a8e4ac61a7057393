"""The admin of events: what happened, to what, and who did it."""

from uuid import UUID

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html
from unfold.decorators import display

from foundation.adminsite.base import ReadOnlyAdmin
from foundation.events.models import Event
from foundation.formatting import EMPTY, value_list


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    offered_permissions = ("view",)
    list_display = ("at", "message", "actor", "kind", "shown_device", "shown_deployment")
    list_filter = ("kind",)
    search_fields = ("message", "actor", "device_id", "deployment_id", "bundle_id")
    fields = ("at", "kind", "message", "actor", "shown_device", "shown_bundle", "shown_deployment", "shown_data")
    readonly_fields = fields
    empty_text = "Nothing has happened yet."

    @display(description="device")
    def shown_device(self, event: Event) -> str:
        return link("devices_device", event.device_id)

    @display(description="bundle")
    def shown_bundle(self, event: Event) -> str:
        return link("bundles_bundle", event.bundle_id)

    @display(description="deployment")
    def shown_deployment(self, event: Event) -> str:
        return link("deployments_deployment", event.deployment_id)

    @display(description="details")
    def shown_data(self, event: Event) -> str:
        return value_list(event.data)


def link(page: str, pk: UUID | None) -> str:
    """Return a link to an object's page, with the first characters of its id as text."""
    if pk is None:
        return EMPTY
    url = reverse(f"admin:{page}_change", args=[pk])
    return format_html('<a class="kx-link" href="{}" title="{}">{}</a>', url, pk, str(pk)[:8])
