"""The operators' endpoints for groups."""

from typing import Any

import pytest

from devices.models import EnrolmentToken, Group
from foundation.events.models import Event
from tests.devices.operators import Person
from tests.factories import make_device, make_enrolment_token, make_group


def code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def test_it_creates_and_lists_groups(alice: Person, victor: Person) -> None:
    created = alice.post("/groups", {"name": "north", "interval_seconds": 2})
    assert (created.status_code, created.json()["interval_seconds"]) == (201, 2)
    assert alice.post("/groups", {"name": "lab"}).json()["interval_seconds"] == 60
    assert [group["name"] for group in victor.get("/groups").json()["results"]] == ["lab", "north"]
    assert victor.get("/groups/north").json() == created.json() | {"device_count": 0}
    assert Event.objects.filter(kind="group.made", actor="operator:alice").count() == 2


def test_two_groups_cannot_have_the_same_name(alice: Person) -> None:
    make_group("north")
    assert code(alice.post("/groups", {"name": "north"})) == (409, "group_exists")
    make_group("south")
    assert code(alice.call("PATCH", "/groups/south", {"name": "north"})) == (409, "group_exists")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", None),
        ("name", ""),
        ("name", "no spaces"),
        ("name", "a/b"),
        ("name", ".."),
        ("name", "x" * 64),
        ("interval_seconds", 0),
        ("interval_seconds", 86_401),
        ("interval_seconds", "soon"),
        ("description", "x" * 501),
    ],
)
def test_it_names_the_invalid_field(alice: Person, field: str, value: Any) -> None:
    response = alice.post("/groups", {"name": "north", field: value})
    assert code(response) == (400, "invalid")
    assert list(response.json()["error"]["fields"]) == [field]


def test_it_edits_a_group(alice: Person) -> None:
    make_group("north")
    response = alice.call("PATCH", "/groups/north", {"interval_seconds": 5, "description": "Doors"})
    assert response.json() | {"name": "north", "interval_seconds": 5, "description": "Doors"} == response.json()
    assert alice.call("PATCH", "/groups/north", {"name": "N1"}).json()["name"] == "N1"
    assert alice.get("/groups/north").status_code == 404


def test_it_deletes_an_unused_group(alice: Person) -> None:
    token, _ = make_enrolment_token()
    token.revoke("operator:alice")
    assert alice.call("DELETE", "/groups/lab").status_code == 204
    assert not Group.objects.exists()
    assert not EnrolmentToken.objects.exists()
    assert alice.call("DELETE", "/groups/lab").status_code == 404


@pytest.mark.parametrize("make", [make_device, make_enrolment_token])
def test_it_keeps_a_group_in_use(alice: Person, make: Any) -> None:
    ended, _ = make_enrolment_token()
    ended.revoke("operator:alice")
    make()
    assert code(alice.call("DELETE", "/groups/lab")) == (409, "group_in_use")
    assert EnrolmentToken.objects.filter(pk=ended.pk).exists()


@pytest.mark.parametrize(("method", "path"), [("POST", "/groups"), ("PATCH", "/groups/lab"), ("DELETE", "/groups/lab")])
def test_changing_is_for_operators(victor: Person, stranger: Person, method: str, path: str) -> None:
    make_group()
    assert victor.call(method, path, {"name": "x"}).status_code == 403
    assert stranger.call(method, path, {"name": "x"}).status_code == 401
    assert Group.objects.get().name == "lab"


def test_an_unknown_group_is_not_found(alice: Person) -> None:
    for method in ("GET", "PATCH", "DELETE"):
        assert code(alice.call(method, "/groups/nobody", {})) == (404, "not_found")
    assert code(alice.get("/groups/%00")) == (404, "not_found")
