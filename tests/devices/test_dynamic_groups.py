"""Dynamic groups: a saved query that is used like a static group."""

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from deployments.definition import Definition, start
from deployments.models import DeviceDeployment
from deployments.planning import plan
from deployments.previews.counting import compute_previews, start_preview
from devices.models import Group
from devices.queries.registry import query_fields
from foundation.errors import BadRequest
from foundation.events.models import Event
from tests.devices.operators import Person
from tests.factories import make_bundle, make_device, make_group

pytestmark = pytest.mark.django_db
QUERY = "type = cam or tag = north"


def code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def make_dynamic(name: str = "cams", query: str = QUERY) -> Group:
    return make_group(name, query=query)


def make_fleet() -> None:
    """Create three devices that match `QUERY`, one of them decommissioned, and one that does not."""
    make_device(name="cam", device_type="cam")
    make_device(name="north", tags=["north"], state="pending", group=make_group("field"))
    make_device(name="gone", device_type="cam", state="decommissioned")
    make_device(name="other")


def test_it_creates_edits_and_lists_dynamic_groups(alice: Person, victor: Person) -> None:
    created = alice.post("/groups", {"name": "cams", "query": QUERY})
    assert (created.status_code, created.json()["query"], created.json()["interval_seconds"]) == (201, QUERY, None)
    assert Event.objects.get(kind="group.made").data == {"name": "cams", "query": QUERY}
    edited = alice.call("PATCH", "/groups/cams", {"query": "type = cam", "description": "Cameras"})
    assert (edited.json()["query"], edited.json()["description"]) == ("type = cam", "Cameras")
    make_group("lab")
    listed = {group["name"]: group["query"] for group in victor.get("/groups").json()["results"]}
    assert listed == {"cams": "type = cam", "lab": ""}
    assert victor.call("PATCH", "/groups/cams", {"query": "x"}).status_code == 403
    assert alice.call("DELETE", "/groups/cams").status_code == 204


def test_one_group_has_the_number_of_its_devices(victor: Person) -> None:
    make_fleet()
    make_dynamic()
    assert victor.get("/groups/cams").json()["device_count"] == 2
    assert victor.get("/groups/field").json()["device_count"] == 1
    assert "device_count" not in victor.get("/groups").json()["results"][0]


def test_counting_that_takes_too_long_is_given_up(victor: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    make_device()
    make_dynamic(query="name = x")
    fields = query_fields()
    monkeypatch.setitem(fields, "name", replace(fields["name"], sql="(SELECT 'x' FROM pg_sleep(60))"))
    monkeypatch.setattr("devices.queries.filtering.TIMEOUT_MILLISECONDS", 100)
    assert victor.get("/groups/cams").json()["device_count"] is None


def test_the_list_of_groups_counts_nothing(victor: Person) -> None:
    counts = []
    for number in (1, 2, 3):
        make_dynamic(f"dynamic-{number}")
        with CaptureQueriesContext(connection) as queries:
            victor.get("/groups")
        counts.append(len(queries))
    assert counts[1] == counts[2]


@pytest.mark.parametrize(
    ("query", "marked"),
    [
        ("agnet = 1", "agnet"),
        ("type = cam and group = cams", "cams"),
        ("group in (lab, cams)", "cams"),
        ('not group != "cams"', '"cams"'),
    ],
)
def test_a_wrong_query_is_refused_with_its_place(alice: Person, query: str, marked: str) -> None:
    make_dynamic("cams")
    make_dynamic("other")
    for response in (
        alice.post("/groups", {"name": "new", "query": query}),
        alice.call("PATCH", "/groups/other", {"query": query}),
    ):
        assert code(response) == (400, "invalid_query")
        error = response.json()["error"]
        assert query[error["position"] : error["position"] + error["length"]] == marked
    assert not Group.objects.filter(name="new").exists()


def test_a_query_may_name_static_groups(alice: Person) -> None:
    make_group("lab")
    assert alice.post("/groups", {"name": "new", "query": "group in (lab, nowhere) or group ~ cams"}).status_code == 201


def test_a_group_stays_static_or_dynamic(alice: Person) -> None:
    make_group("lab")
    make_dynamic()
    assert code(alice.call("PATCH", "/groups/lab", {"query": "name ~ x"})) == (409, "wrong_group_type")
    assert code(alice.call("PATCH", "/groups/cams", {"query": ""})) == (400, "invalid")
    for response in (
        alice.post("/groups", {"name": "new", "query": "name ~ x", "interval_seconds": 5}),
        alice.call("PATCH", "/groups/cams", {"interval_seconds": 5}),
    ):
        assert list(response.json()["error"]["fields"]) == ["interval_seconds"]


def test_no_device_is_put_into_a_dynamic_group(alice: Person) -> None:
    make_dynamic()
    device = make_device()
    for response in (
        alice.call("PATCH", f"/devices/{device.pk}", {"group": "cams"}),
        alice.post("/enrolment-tokens", {"name": "x", "group": "cams"}),
    ):
        assert code(response) == (400, "invalid")
        assert list(response.json()["error"]["fields"]) == ["group"]


def test_the_filter_accepts_dynamic_groups_and_the_query_field_does_not(victor: Person) -> None:
    make_fleet()
    make_dynamic()
    named = {device["name"] for device in victor.get("/devices?group=cams").json()["results"]}
    assert named == {"cam", "north", "gone"}
    assert len(victor.get("/devices?group=cams&state=pending&q=tag+%3D+north").json()["results"]) == 1
    assert victor.get("/devices?q=group+%3D+cams").json()["results"] == []


def planned(definition: Definition) -> dict[UUID, str]:
    """Return the state of each planned device."""
    start(definition, actor="operator:alice")
    plan()
    return dict(DeviceDeployment.objects.values_list("device", "state"))


def test_a_deployment_selects_static_and_dynamic_groups() -> None:
    cam = make_device(device_type="cam", group=make_group("field"))
    pending = make_device(device_type="cam", group=make_group("field"), state="pending")
    north = make_device(tags=["north"], group=make_group("field"))
    lab = make_device(group=make_group("lab"))
    named = make_device(group=make_group("field"))
    excluded = make_device(device_type="cam", group=make_group("field"), tags=["out"])
    make_device(group=make_group("field"))
    make_dynamic("cams", "type = cam")
    make_dynamic("northern", "tag = north")
    definition = Definition(
        make_bundle(), ["lab", "cams", "northern"], [named.pk], query="name = nobody", exclude="tag = out"
    )
    assert planned(definition) == {
        cam.pk: "waiting", north.pk: "waiting", lab.pk: "waiting", named.pk: "waiting",
        pending.pk: "skipped", excluded.pk: "skipped",
    }  # fmt: skip


def test_a_preview_counts_dynamic_groups() -> None:
    for state in ("accepted", "accepted", "pending"):
        make_device(device_type="cam", state=state)
    make_device()
    make_dynamic("cams", "type = cam")
    preview = start_preview(Definition(make_bundle(), ["cams"]))
    compute_previews()
    preview.refresh_from_db()
    assert preview.counts["reasons"] == {"": 2, "not_accepted": 1}


def test_a_deployment_keeps_the_query_that_it_was_started_with() -> None:
    cam = make_device(device_type="cam")
    make_device(tags=["north"])
    group = make_dynamic("cams", "type = cam")
    start(Definition(make_bundle(), ["cams"]), actor="operator:alice")
    group.edit("operator:alice", query="tag = north")
    plan()
    assert list(DeviceDeployment.objects.values_list("device", flat=True)) == [cam.pk]


def test_an_unknown_group_is_named() -> None:
    make_dynamic()
    with pytest.raises(BadRequest) as caught:
        start(Definition(make_bundle(), ["cams", "nowhere"]), actor="operator:alice")
    assert caught.value.extra["groups"] == ["nowhere"]
