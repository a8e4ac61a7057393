"""What deployments add to the page of a bundle: where it runs."""

from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from bundles.admin.bundles import BundleAdmin as BaseBundleAdmin
from bundles.models import Bundle
from deployments.usage import usage
from devices.queries.filtering import limited_time
from foundation.errors import BadRequest

admin.site.unregister(Bundle)


@admin.register(Bundle)
class BundleAdmin(BaseBundleAdmin):
    change_form_after_template = "deployments/bundle_usage.html"

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> HttpResponse:
        context = dict(kwargs.pop("extra_context", None) or {})
        bundle = self.get_object(request, object_id)
        if bundle is not None and request.user.has_perm("devices.view_device"):
            context |= usage_context(bundle)
        return super().change_view(request, object_id, *args, extra_context=context, **kwargs)


def usage_context(bundle: Bundle) -> dict[str, Any]:
    """Return what the page shows: the devices that run the bundle, by health, each count with a link to its list.

    `usage` is None if counting takes too long.
    """
    query = f'runs.{bundle.name} = "{bundle.version}" and state = accepted'
    url = reverse("admin:devices_device_changelist")
    try:
        with limited_time():
            counts = usage(bundle)
    except BadRequest:
        return {"usage": None}
    links = [
        (health, count, f"{url}?{urlencode({'q': f'{query} and health = {health}'})}")
        for health, count in counts.items()
    ]
    return {"usage": links, "usage_total": sum(counts.values()), "usage_url": f"{url}?{urlencode({'q': query})}"}
