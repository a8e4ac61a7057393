"""The operators' endpoints for enrolment tokens."""

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone

from devices.models import EnrolmentToken
from foundation.events.models import Event
from tests.devices.operators import Person
from tests.devices.signing import SigningDevice
from tests.factories import make_enrolment_token, make_group


def code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def test_it_shows_the_token_once(alice: Person, victor: Person, client: Client) -> None:
    make_group()
    body = {"name": "doors", "group": "lab", "uses_allowed": 3, "expires_in_seconds": 600, "accepts_at_once": True}
    created = alice.post("/enrolment-tokens", body)
    response = created.json()
    assert created.status_code == 201
    assert (
        response | {"name": "doors", "group": "lab", "uses_allowed": 3, "uses": 0, "accepts_at_once": True} == response
    )
    remaining = datetime.fromisoformat(response["expires_at"]) - timezone.now()
    assert timedelta(seconds=590) < remaining <= timedelta(seconds=600)
    assert SigningDevice(client).register(response["token"]).status_code == 201
    listed = victor.get("/enrolment-tokens")
    assert [token["uses"] for token in listed.json()["results"]] == [1]
    assert response["token"] not in listed.content.decode()
    token = EnrolmentToken.objects.get()
    assert token.created_by is not None
    assert token.created_by.username == "alice"
    event = Event.objects.get(kind="token.issued")
    assert response["token"] not in str(event.data) + event.message + token.secret_sha256


def test_the_defaults_of_a_token_are_strict(alice: Person) -> None:
    make_group()
    response = alice.post("/enrolment-tokens", {"name": "one", "group": "lab"}).json()
    assert (response["uses_allowed"], response["accepts_at_once"]) == (1, False)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "x" * 101),
        ("group", None),
        ("group", "nobody"),
        ("uses_allowed", 0),
        ("uses_allowed", 1_000_001),
        ("expires_in_seconds", 0),
        ("expires_in_seconds", 10**12),
        ("accepts_at_once", "perhaps"),
    ],
)
def test_it_names_the_invalid_field(alice: Person, field: str, value: Any) -> None:
    make_group()
    response = alice.post("/enrolment-tokens", {"name": "one", "group": "lab", field: value})
    assert code(response) == (400, "invalid")
    assert list(response.json()["error"]["fields"]) == [field]


def test_a_revoked_token_registers_no_device(alice: Person, client: Client) -> None:
    token, secret = make_enrolment_token()
    first = alice.post(f"/enrolment-tokens/{token.id}/revoke").json()
    assert first["revoked_at"] is not None
    assert alice.post(f"/enrolment-tokens/{token.id}/revoke").json() == first
    assert Event.objects.filter(kind="token.revoked", actor="operator:alice").count() == 1
    assert code(SigningDevice(client).register(secret)) == (403, "bad_token")


def test_issuing_and_revoking_are_for_operators(victor: Person, stranger: Person) -> None:
    token, _ = make_enrolment_token()
    for path in ("/enrolment-tokens", f"/enrolment-tokens/{token.id}/revoke"):
        assert victor.post(path, {"name": "x", "group": "lab"}).status_code == 403
        assert stranger.post(path, {"name": "x", "group": "lab"}).status_code == 401
    assert EnrolmentToken.objects.get().revoked_at is None


def test_an_unknown_token_is_not_found(alice: Person) -> None:
    assert code(alice.post(f"/enrolment-tokens/{uuid4()}/revoke")) == (404, "not_found")
