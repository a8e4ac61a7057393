"""What people do in the admin, as requests."""

from typing import Any

from django.contrib.messages import get_messages
from django.test import Client

LISTS = {
    "devices": "/admin/devices/device/", "groups": "/admin/devices/group/", "tokens": "/admin/devices/enrolmenttoken/",
    "bundles": "/admin/bundles/bundle/", "deployments": "/admin/deployments/deployment/",
    "events": "/admin/events/event/", "users": "/admin/auth/user/", "user groups": "/admin/auth/group/",
    "API tokens": "/admin/tokens/apitoken/",
}  # fmt: skip


def act(client: Client, page: str, action: str, *objects: Any, confirmed: bool = True, **fields: Any) -> Any:
    """Take an action of a list on some objects."""
    body = {"action": action, "_selected_action": [str(one.pk) for one in objects], "select_across": "0", **fields}
    return client.post(LISTS[page], body | ({"confirmed": "yes"} if confirmed else {}))


def said(answer: Any) -> list[str]:
    """The messages that the next page shows."""
    return [str(message) for message in get_messages(answer.wsgi_request)]


def page_of(page: str, obj: Any) -> str:
    return f"{LISTS[page]}{obj.pk}/change/"
