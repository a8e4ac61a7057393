"""How the admin looks: names, colours, and what its side bar offers to whom."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse_lazy

# Teal; what white text stands on has at least 4.5 : 1 against it.
PRIMARY = {
    "50": "#f0fdfa", "100": "#ccfbf1", "200": "#99f6e4", "300": "#5eead4", "400": "#2dd4bf", "500": "#0d9488",
    "600": "#0f766e", "700": "#0f766e", "800": "#115e59", "900": "#134e4a", "950": "#042f2e",
}  # fmt: skip


def own(path: str) -> Callable[[HttpRequest], str]:
    """The address of a static file, asked for when a page is made: only then the hashed names are known."""
    return lambda request: static(f"kernex/{path}")


def item(title: str, icon: str, model: str) -> dict[str, Any]:
    """A line of the side bar, for those who may see that list."""
    room, name = model.split(".")

    def may_see(request: HttpRequest) -> bool:
        return request.user.has_perm(f"{room}.view_{name}") or request.user.has_perm(f"{room}.change_{name}")

    link = reverse_lazy(f"admin:{room}_{name}_changelist")
    return {"title": title, "icon": icon, "link": link, "permission": may_see}


UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Kernex",
    "SITE_HEADER": "Kernex",
    "SITE_SUBHEADER": "fleet control",
    "SITE_URL": None,
    "SITE_ICON": own("icon.svg"),
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": own("icon.svg")}],
    "SHOW_HISTORY": False,
    "SHOW_VIEW_ON_SITE": False,
    "DASHBOARD_CALLBACK": "kernex.pages.start_page",
    "STYLES": [own("admin.css")],
    "SCRIPTS": [own("admin.js")],
    "BORDER_RADIUS": "6px",
    "COLORS": {"primary": PRIMARY},
    "SIDEBAR": {
        "show_search": False,
        "navigation": [
            {
                "title": "Fleet",
                "items": [
                    {"title": "Overview", "icon": "dashboard", "link": reverse_lazy("admin:index")},
                    item("Devices", "memory", "devices.device"),
                    item("Groups", "folder", "devices.group"),
                    item("Enrolment tokens", "key", "devices.enrolmenttoken"),
                ],
            },
            {
                "title": "Software",
                "items": [
                    item("Bundles", "inventory_2", "bundles.bundle"),
                    item("Deployments", "rocket_launch", "deployments.deployment"),
                    item("Events", "history", "events.event"),
                ],
            },
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
