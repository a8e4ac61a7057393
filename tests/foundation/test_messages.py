"""What operators send: a member that is not known is refused, everywhere."""

import json
from typing import Any

import pytest
from django.test import Client

from devices.models import EnrolmentToken, Group
from foundation.api.schema_view import document
from tests.devices.operators import Person
from tests.factories import make_group, make_token, make_user

# Devices and servers are not updated at once: these ignore what they do not know (docs/device-api.md).
OF_DEVICES = {"register", "heartbeat", "attributes", "result", "batches"}


def bodies() -> dict[str, dict[str, Any]]:
    """The schema of every JSON body that operators send, by its address."""
    told = json.loads(document())
    found = {}
    for path, operations in told["paths"].items():
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if content and path.rsplit("/", 1)[1] not in OF_DEVICES:
                found[f"{method} {path}"] = told["components"]["schemas"][content["schema"]["$ref"].rsplit("/", 1)[1]]
    return found


def test_the_schema_says_so() -> None:
    found = bodies()
    assert len(found) >= 7
    assert [name for name, schema in found.items() if schema.get("additionalProperties") is not False] == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("method", "path", "body", "unknown"),
    [
        ("POST", "/groups", {"name": "north", "interval": 5}, "interval"),
        ("PATCH", "/groups/lab", {"interval": 5}, "interval"),
        ("POST", "/enrolment-tokens", {"name": "a", "group": "lab", "max_uses": 5}, "max_uses"),
        ("POST", "/deployments", {"bundle": "vad@1", "groups": ["lab"], "deadline": 60}, "deadline"),
        ("POST", "/uploads", {"sha256": "0" * 64, "size": 1, "parts": [{"number": 1, "sha1": "x"}]}, "parts"),
    ],
)
def test_a_misspelt_member_is_refused(
    client: Client, method: str, path: str, body: dict[str, Any], unknown: str
) -> None:
    make_group("lab")
    answer = Person(client, make_token(make_user(), "admin")).call(method, path, body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid"), answer.content
    assert list(answer.json()["error"]["fields"]) == [unknown]
    assert "This member is unknown. The members are " in answer.content.decode()
    assert (Group.objects.count(), EnrolmentToken.objects.count()) == (1, 0)
