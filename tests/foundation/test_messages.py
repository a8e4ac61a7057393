"""Every JSON body of operators is refused if it has an unknown member."""

import json
from typing import Any

import pytest
from django.test import Client

from devices.models import EnrolmentToken, Group
from foundation.api.schema_view import document
from tests.devices.operators import Person
from tests.factories import make_group, make_token, make_user

# Devices and servers are updated at different times, so these ignore unknown members (docs/device-api.md).
DEVICE_ENDPOINTS = {"register", "heartbeat", "attributes", "result", "batches"}


def body_schemas() -> dict[str, dict[str, Any]]:
    """Return the schema of every JSON body that operators send, by method and path."""
    schema_document = json.loads(document())
    schemas = {}
    for path, operations in schema_document["paths"].items():
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json")
            if content and path.rsplit("/", 1)[1] not in DEVICE_ENDPOINTS:
                schemas[f"{method} {path}"] = schema_document["components"]["schemas"][
                    content["schema"]["$ref"].rsplit("/", 1)[1]
                ]
    return schemas


def test_the_schema_allows_no_additional_properties() -> None:
    schemas = body_schemas()
    assert len(schemas) >= 7
    assert [name for name, schema in schemas.items() if schema.get("additionalProperties") is not False] == []


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
    response = Person(client, make_token(make_user(), "admin")).call(method, path, body)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid"), response.content
    assert list(response.json()["error"]["fields"]) == [unknown]
    assert "This field is unknown. The valid fields are " in response.content.decode()
    assert (Group.objects.count(), EnrolmentToken.objects.count()) == (1, 0)
