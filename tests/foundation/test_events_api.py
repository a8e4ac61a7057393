"""GET /api/v1/events: filters, pages, and who may read."""

from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from foundation.events.models import record_event
from tests.devices.operators import Person
from tests.factories import make_token, make_user

DEVICE, DEPLOYMENT = uuid4(), uuid4()
pytestmark = pytest.mark.django_db


@pytest.fixture
def viewer(client: Client) -> Person:
    return Person(client, make_token(make_user(), "viewer"))


@pytest.fixture
def events() -> list[int]:
    """The ids of three events, oldest first."""
    return [
        record_event("device.registered", "shelf-4 was registered.", actor="device", device=DEVICE, group="lab").pk,
        record_event("device.approved", "shelf-4 was approved.", actor="operator:alice", device=DEVICE).pk,
        record_event("deployment.cancelled", "Cancelled.", actor="operator:alice", deployment=DEPLOYMENT).pk,
    ]


def ids(response: Any) -> list[int]:
    assert response.status_code == 200, response.content
    return [event["id"] for event in response.json()["results"]]


def test_a_viewer_reads_events_newest_first(viewer: Person, events: list[int]) -> None:
    response = viewer.get("/events")
    assert ids(response)[:3] == events[::-1]  # the API token's own event is older
    event = response.json()["results"][2]
    assert event.pop("at").endswith("Z")
    assert event == {
        "id": events[0], "kind": "device.registered", "actor": "device", "message": "shelf-4 was registered.",
        "device_id": str(DEVICE), "bundle_id": None, "deployment_id": None, "data": {"group": "lab"},
    }  # fmt: skip


def test_filters_combine(viewer: Person, events: list[int]) -> None:
    assert ids(viewer.get(f"/events?device={DEVICE}")) == [events[1], events[0]]
    assert ids(viewer.get(f"/events?device={DEVICE}&kind=device.approved")) == [events[1]]
    assert ids(viewer.get(f"/events?deployment={DEPLOYMENT}")) == [events[2]]
    assert ids(viewer.get(f"/events?device={uuid4()}")) == []


@pytest.mark.parametrize("query", ["device=7", "deployment=vad", f"kind={'x' * 65}", "color=red", "kind=%00"])
def test_wrong_filters_are_refused(viewer: Person, query: str) -> None:
    assert viewer.get(f"/events?{query}").status_code == 400


def test_pages_follow_the_cursor(viewer: Person, events: list[int]) -> None:
    first = viewer.get("/events?page_size=2")
    assert ids(first) == events[:0:-1]
    following = viewer.get("/events?" + first.json()["next"].partition("?")[2])
    assert ids(following)[0] == events[0]
    assert following.json()["next"] is None


def test_events_need_an_api_token(client: Client) -> None:
    assert Person(client, "").get("/events").status_code == 401
    assert Person(client, "kxa_wrong").get("/events").status_code == 401


def test_events_cannot_be_written(client: Client) -> None:
    admin = Person(client, make_token(make_user(), "admin"))
    assert admin.post("/events", {"kind": "device.approved"}).status_code == 405
