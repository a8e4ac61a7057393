"""Requests that operators send in the admin."""

from typing import Any

from django.contrib.messages import get_messages
from django.test import Client

LISTS = {
    "devices": "/admin/devices/device/", "groups": "/admin/devices/group/", "tokens": "/admin/devices/enrolmenttoken/",
    "bundles": "/admin/bundles/bundle/", "deployments": "/admin/deployments/deployment/",
    "events": "/admin/events/event/", "users": "/admin/auth/user/", "user groups": "/admin/auth/group/",
    "API tokens": "/admin/tokens/apitoken/",
}  # fmt: skip


def run_action(client: Client, page: str, action: str, *objects: Any, confirmed: bool = True, **fields: Any) -> Any:
    """Run an action of a list on some objects."""
    body = {
        "action": action,
        "_selected_action": [str(selected.pk) for selected in objects],
        "select_across": "0",
        **fields,
    }
    return client.post(LISTS[page], body | ({"confirmed": "yes"} if confirmed else {}))


def shown_messages(response: Any) -> list[str]:
    """Return the messages that the next page shows."""
    return [str(message) for message in get_messages(response.wsgi_request)]


def object_url(page: str, obj: Any) -> str:
    return f"{LISTS[page]}{obj.pk}/change/"
