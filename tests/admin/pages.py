"""What tests say to the admin, and what they read out of its answers."""

from typing import Any

from django.test import Client

LISTS = (
    "devices/device", "devices/group", "devices/enrolmenttoken", "bundles/bundle", "deployments/deployment",
    "events/event", "tokens/apitoken", "auth/user", "auth/group",
)  # fmt: skip


def page(client: Client, path: str) -> str:
    """The text of a page that is there."""
    answer = client.get(f"/admin/{path}")
    assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.headers}"
    return answer.content.decode()


def act(client: Client, where: str, action: str, *objects: Any, confirmed: bool = True, **fields: Any) -> Any:
    """Ask for an action on these objects, as the page that asks does when it is `confirmed`. Follows to the end."""
    body = {"action": action, "_selected_action": [str(one.pk) for one in objects], "select_across": "0", **fields}
    if confirmed:
        body["confirmed"] = "yes"
    return client.post(f"/admin/{where}/", body, follow=True)


def messages_of(answer: Any) -> list[str]:
    """What the page tells above its content."""
    return [str(message) for message in answer.context["messages"]]
