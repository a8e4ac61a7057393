"""The admin's look: names, colours, and the entries of its sidebar."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy

# Teal: white text on 500 and darker has a contrast of at least 4.5 : 1.
PRIMARY = {
    "50": "#f0fdfa", "100": "#ccfbf1", "200": "#99f6e4", "300": "#5eead4", "400": "#2dd4bf", "500": "#0d9488",
    "600": "#0f766e", "700": "#0f766e", "800": "#115e59", "900": "#134e4a", "950": "#042f2e",
}  # fmt: skip


def static_file(path: str) -> Callable[[HttpRequest], str]:
    """Return the URL of a static file as a callable: hashed names are known only when a page is rendered."""
    return lambda request: static(f"kernex/{path}")


def item(title: str, icon: str, model: str, permission: str = "") -> dict[str, Any]:
    """Return a sidebar entry that leads to a model's list, shown to those who may see that list.

    `permission` replaces the model's own permissions if another permission allows viewing the list.
    """
    app, name = model.split(".")
    permissions = [permission] if permission else [f"{app}.view_{name}", f"{app}.change_{name}"]

    def may_see(request: HttpRequest) -> bool:
        return any(request.user.has_perm(permission) for permission in permissions)

    link = reverse_lazy(f"admin:{app}_{name}_changelist")
    return {"title": title, "icon": icon, "link": link, "permission": may_see}


UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Kernex",
    "SITE_HEADER": "Kernex",
    "SITE_SUBHEADER": "fleet control",
    "SITE_URL": None,
    "SITE_ICON": static_file("icon.svg"),
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": static_file("icon.svg")}],
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "DASHBOARD_CALLBACK": "kernex.pages.start_page",
    "STYLES": [static_file("admin.css")],
    "SCRIPTS": [static_file("admin.js")],
    "BORDER_RADIUS": "6px",
    "COLORS": {"primary": PRIMARY},
    "SIDEBAR": {
        "show_search": False,
        "navigation": [
            {
                "title": "Devices",
                "items": [
                    {"title": "Overview", "icon": "dashboard", "link": reverse_lazy("admin:index")},
                    item("Devices", "memory", "devices.device"),
                    item("Groups", "folder", "devices.group"),
                    item("Enrolment tokens", "key", "devices.enrolmenttoken"),
                    item("Device logs", "article", "devices.logrequest", "devices.view_device"),
                    item("Bulk decisions", "checklist", "devices.bulkdecision", "devices.view_device"),
                ],
            },
            {
                "title": "Bundles",
                "items": [
                    item("Bundles", "inventory_2", "bundles.bundle"),
                    item("Archives", "folder_zip", "bundles.sentarchive"),
                ],
            },
            {
                "title": "Deployments",
                "items": [
                    item("Deployments", "rocket_launch", "deployments.deployment"),
                    item("Holds", "pause_circle", "deployments.hold"),
                ],
            },
            {"title": "History", "items": [item("Events", "history", "events.event")]},
            {
                "title": "People",
                "items": [
                    item("Users", "person", "auth.user"),
                    item("User groups", "group", "auth.group"),
                    item("API tokens", "vpn_key", "tokens.apitoken"),
                ],
            },
        ],
    },
}
