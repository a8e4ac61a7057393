"""The operators' endpoints for devices."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from devices.models import Command, Device, HeartbeatSample
from foundation.events.models import Event
from tests.devices.operators import Person
from tests.devices.payloads import deploy_payload
from tests.devices.signing import SigningDevice
from tests.factories import make_device, make_group

SECONDS_AGO = {state: timedelta(seconds=n) for state, n in {"online": 179, "offline": 181}.items()}


def code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def names(response: Any) -> list[str]:
    assert response.status_code == 200, response.json()
    return [device["name"] for device in response.json()["results"]]


@pytest.fixture
def fleet(db: None) -> dict[str, Device]:
    now = timezone.now()
    fast = make_group("fast", interval_seconds=2)
    return {
        device.name: device
        for device in [
            make_device(name="online", last_heartbeat_at=now - SECONDS_AGO["online"], tags=["north", "door"]),
            make_device(name="offline", last_heartbeat_at=now - SECONDS_AGO["offline"], tags=["north"]),
            make_device(name="never", device_type="gateway"),
            make_device(name="fast", last_heartbeat_at=now - timedelta(seconds=8), group=fast),
            make_device(name="slow", last_heartbeat_at=now - timedelta(seconds=12), group=fast),
            make_device(name="pending", state="pending", last_heartbeat_at=now),
            make_device(name="gone", state="decommissioned", last_heartbeat_at=now),
        ]
    }


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"online", "offline", "never", "fast", "slow", "pending", "gone"}),
        ("state=pending", {"pending"}),
        ("state=accepted", {"online", "offline", "never", "fast", "slow"}),
        ("online=true", {"online", "fast"}),
        ("online=false", {"offline", "never", "slow"}),
        ("group=fast", {"fast", "slow"}),
        ("group=fast&online=true", {"fast"}),
        ("group=nobody", set()),
        ("tag=north", {"online", "offline"}),
        ("tag=door", {"online"}),
        ("q=LIN", {"online", "offline"}),
        ("q=type+%3D+gateway", {"never"}),
        ("q=%25", set()),
    ],
)
def test_it_lists_and_filters(fleet: dict[str, Device], victor: Person, query: str, expected: set[str]) -> None:
    listed = names(victor.get(f"/devices?{query}"))
    assert sorted(listed) == sorted(expected)


def test_a_part_of_an_id_finds_the_device(fleet: dict[str, Device], victor: Person) -> None:
    assert names(victor.get(f"/devices?q={str(fleet['fast'].id)[:18]}")) == ["fast"]


def test_the_query_and_the_property_agree_on_who_is_online(fleet: dict[str, Device]) -> None:
    online = set(Device.objects.online())
    offline = set(Device.objects.offline())
    for device in Device.objects.all():
        assert device.is_online == (device in online)
        assert (device.state == "accepted") == (device in online | offline)
    assert not online & offline


@pytest.mark.parametrize("query", ["state=x", "online=perhaps", f"q={'x' * 4097}"])
def test_it_refuses_an_invalid_filter(victor: Person, query: str) -> None:
    assert code(victor.get(f"/devices?{query}")) == (400, "invalid")


@pytest.mark.parametrize("query", ["q=%00", "tag=%00", "group=%00", "cursor=x", "cursor=cD0lMDA%3D"])
def test_malformed_queries_are_refused(fleet: dict[str, Device], victor: Person, query: str) -> None:
    assert victor.get(f"/devices?{query}").status_code in {200, 400, 404}


def test_a_list_is_paginated(victor: Person, django_assert_max_num_queries: Callable[[int], Any]) -> None:
    for n in range(25):
        make_device(name=str(n))
    seen: list[str] = []
    path = "/devices?page_size=10"
    while path:
        with django_assert_max_num_queries(4):
            page = victor.get(path).json()
        seen += [device["name"] for device in page["results"]]
        path = (page["next"] or "").partition("/api/v1")[2]
    assert seen == [str(n) for n in reversed(range(25))]


def test_it_shows_one_device(device: SigningDevice, victor: Person) -> None:
    device.heartbeat(status="busy")
    shown = victor.get(f"/devices/{device.id}").json()
    expected = {"state": "accepted", "online": True, "status": "busy", "group": "lab", "cloned": False}
    assert shown | expected == shown
    assert shown["metrics"] == {"cpu_percent": 2.5}
    assert shown["public_key"] == device.public_key


@pytest.mark.parametrize("path", ["", "/history"])
def test_an_unknown_device_is_not_found(victor: Person, path: str) -> None:
    assert code(victor.get(f"/devices/{uuid4()}{path}")) == (404, "not_found")


def test_it_edits_what_operators_decide(device: SigningDevice, alice: Person) -> None:
    make_group("north")
    changes = {"name": "Tür 7", "tags": ["b", "a", "b"], "group": "north"}
    response = alice.call("PATCH", f"/devices/{device.id}", changes).json()
    assert (response["name"], response["tags"], response["group"]) == ("Tür 7", ["a", "b"], "north")
    event = Event.objects.get(kind="device.edited")
    assert (event.actor, event.device_id) == ("operator:alice", device.id)
    assert alice.call("PATCH", f"/devices/{device.id}", {}).json() == response
    assert Event.objects.filter(kind="device.edited").count() == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", "x" * 101),
        ("name", None),
        ("tags", "north"),
        ("tags", ["no spaces"]),
        ("tags", ["x" * 64]),
        ("tags", [f"t{n}" for n in range(33)]),
        ("group", "nobody"),
        ("group", None),
        ("group", {}),
    ],
)
def test_it_names_the_invalid_field(device: SigningDevice, alice: Person, field: str, value: Any) -> None:
    response = alice.call("PATCH", f"/devices/{device.id}", {field: value})
    assert code(response) == (400, "invalid")
    assert list(response.json()["error"]["fields"]) == [field]


# The state before, the decision, and the state after (None: refused).
TRANSITIONS = [
    ("pending", "approve", "accepted"),
    ("pending", "reject", "decommissioned"),
    ("pending", "decommission", "decommissioned"),
    ("accepted", "approve", "accepted"),
    ("accepted", "reject", None),
    ("accepted", "decommission", "decommissioned"),
    ("decommissioned", "approve", None),
    ("decommissioned", "reject", "decommissioned"),
    ("decommissioned", "decommission", "decommissioned"),
]


@pytest.mark.parametrize(("source", "verb", "target"), TRANSITIONS)
def test_each_decision_in_each_state(alice: Person, source: str, verb: str, target: str | None) -> None:
    device = make_device(state=source)
    response = alice.post(f"/devices/{device.id}/{verb}")
    if target is None:
        assert code(response) == (409, "wrong_state")
        assert response.json()["error"]["state"] == source
    else:
        assert (response.status_code, response.json()["state"]) == (200, target)
    device.refresh_from_db()
    assert device.state == (target or source)
    is_changed = target not in {None, source}
    assert Event.objects.filter(device_id=device.id, actor="operator:alice").count() == int(is_changed)
    assert alice.post(f"/devices/{device.id}/{verb}").status_code == response.status_code
    assert Event.objects.filter(device_id=device.id).count() == int(is_changed)


def test_a_decommissioned_device_has_no_open_commands(alice: Person, row: Device) -> None:
    Command.objects.queue(row.id, deploy_payload())
    alice.post(f"/devices/{row.id}/decommission")
    assert not Command.objects.open().exists()


@pytest.mark.parametrize("verb", ["approve", "reject", "decommission"])
def test_deciding_is_for_operators(victor: Person, stranger: Person, row: Device, verb: str) -> None:
    assert code(victor.post(f"/devices/{row.id}/{verb}"))[0] == 403
    assert code(stranger.post(f"/devices/{row.id}/{verb}"))[0] == 401
    assert Device.objects.get().state == "accepted"


def test_editing_is_for_operators(victor: Person, stranger: Person, row: Device) -> None:
    assert victor.call("PATCH", f"/devices/{row.id}", {"name": "x"}).status_code == 403
    assert stranger.call("PATCH", f"/devices/{row.id}", {"name": "x"}).status_code == 401
    assert Device.objects.get().name == ""


@pytest.mark.parametrize("path", ["/devices", "/devices/{id}", "/devices/{id}/history", "/groups", "/enrolment-tokens"])
def test_reading_needs_a_token(stranger: Person, row: Device, path: str) -> None:
    assert stranger.get(path.replace("{id}", str(row.id))).status_code == 401


def test_a_signature_does_not_replace_an_api_token(device: SigningDevice) -> None:
    for path in ("/devices", f"/devices/{device.id}"):
        assert device.call("GET", path).status_code == 401


@pytest.mark.parametrize("verb", ["approve", "reject", "decommission"])
def test_deciding_about_an_unknown_device_is_not_found(alice: Person, verb: str) -> None:
    assert code(alice.post(f"/devices/{uuid4()}/{verb}")) == (404, "not_found")


def test_history_is_newest_first(row: Device, victor: Person) -> None:
    now = timezone.now()
    HeartbeatSample.objects.bulk_create(
        HeartbeatSample(device=row, at=now - timedelta(minutes=n), status=str(n), metrics={"n": n}) for n in range(5)
    )
    HeartbeatSample.objects.create(device=make_device(), at=now, status="other", metrics={})
    page = victor.get(f"/devices/{row.id}/history?page_size=3").json()
    assert [sample["status"] for sample in page["results"]] == ["0", "1", "2"]
    assert page["results"][1]["metrics"] == {"n": 1}
    rest = victor.get(page["next"].partition("/api/v1")[2]).json()
    assert [sample["status"] for sample in rest["results"]] == ["3", "4"]
