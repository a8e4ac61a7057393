"""Queries over devices: each field, the agreement of both back ends, and the API's `?q=`."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.utils import timezone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deployments.models import Comparison, Deployment, DeviceDeployment
from deployments.states import FINAL_STATES, RESULTS
from devices.models import Device
from devices.queries import versions
from devices.queries.conditions import Condition
from devices.queries.filtering import filter_devices
from devices.queries.registry import fields_named, query_fields
from foundation.queries.errors import BadQuery
from tests.devices.operators import Person
from tests.factories import make_bundle, make_device, make_group

SHA256 = "a" * 64
NOBODY = "0b4a1a3c-9d58-4a49-9f0f-2f7b9f6c2d11"


def bundle(version: str, *, healthy: bool = True, **fields: Any) -> dict[str, Any]:
    return {"version": version, "manifest_sha256": SHA256, "healthy": healthy, **fields}


@pytest.fixture
def fleet(db: None) -> None:
    """Three devices: `bench-1` is complete, `Bench-2` offline with an older version, `bare` has reported nothing."""
    now = timezone.now()
    make_device(
        name="bench-1", group=make_group("lab"), tags=["site:north", "canary"], last_heartbeat_at=now,
        agent_version="1.10.0", reported_health="unhealthy",
        attributes={"board": "r5", "floor": 3, "spare": False, "note": None, "text": "5", "serial": "100"},
        metrics={"disk_free": 10_000, "temperature_celsius": 41.5},
        running_bundles={"svc": bundle("1.4.0", healthy=False, verdict={"latency_ms": 250}), "a.b": bundle("2")},
    )  # fmt: skip
    make_device(
        name="Bench-2", is_test=True, group=make_group("field"), tags=["site:south"],
        last_heartbeat_at=now - timedelta(days=1),
        agent_version="1.9.0", reported_health="healthy", attributes={"board": "r4", "floor": "3"},
        metrics={"disk_free": "10000"}, running_bundles={"svc": bundle("1.4.0-rc1")},
    )  # fmt: skip
    make_device(name="bare", group=make_group("field"), state="pending", device_type="cam")


QUERIES = {
    "bench": {"bench-1", "Bench-2"},
    "bench north": set(),
    '"BENCH-1"': {"bench-1"},
    "name = bench-1": {"bench-1"},
    "name = bench-2": set(),
    "name ~ BENCH": {"bench-1", "Bench-2"},
    "name != bench-1": {"Bench-2", "bare"},
    'name ~ "%"': set(),
    'name ~ "_"': set(),
    "name in (bench-1, bare)": {"bench-1", "bare"},
    "id ~ -": {"bench-1", "Bench-2", "bare"},
    "id = bench-1": set(),
    "group = field": {"Bench-2", "bare"},
    "group = nowhere": set(),
    "tag = canary": {"bench-1"},
    "tag ~ site:": {"bench-1", "Bench-2"},
    "tag != canary": {"Bench-2", "bare"},
    "tag in (canary, site:south)": {"bench-1", "Bench-2"},
    "tag is set": {"bench-1", "Bench-2"},
    "tag is not set": {"bare"},
    "type = cam": {"bare"},
    "test = true": {"Bench-2"},
    "test != true": {"bench-1", "bare"},
    "test is set": {"bench-1", "Bench-2", "bare"},
    "state = pending": {"bare"},
    "state != pending": {"bench-1", "Bench-2"},
    "health = unhealthy": {"bench-1"},
    "health = unknown": {"Bench-2", "bare"},
    "health in (unhealthy, unknown)": {"bench-1", "Bench-2", "bare"},
    "online = true": {"bench-1"},
    "online != true": {"Bench-2", "bare"},
    "last_heartbeat < 10m ago": {"Bench-2"},
    "last_heartbeat > 10m ago": {"bench-1"},
    "not last_heartbeat > 10m ago": {"Bench-2", "bare"},
    "last_heartbeat is not set": {"bare"},
    "registered > 2020-01-01T00:00Z": {"bench-1", "Bench-2", "bare"},
    "registered < 2020-01-01": set(),
    "registered > 2020-01-01T10:00+20:00": {"bench-1", "Bench-2", "bare"},
    "agent >= 1.10": {"bench-1"},
    "agent < 1.10.0": {"Bench-2"},
    "agent is set": {"bench-1", "Bench-2"},
    "serial = 100": {"bench-1"},
    "attr.board = r5": {"bench-1"},
    "attr.board != r5": {"Bench-2", "bare"},
    "not attr.board = r5": {"Bench-2", "bare"},
    "attr.board ~ R": {"bench-1", "Bench-2"},
    "attr.board in (r4, r5)": {"bench-1", "Bench-2"},
    "attr.floor = 3": {"bench-1", "Bench-2"},
    "attr.floor = 3.0": {"bench-1"},
    'attr.floor = "3"': {"Bench-2"},
    "attr.floor > 2": {"bench-1"},
    "attr.spare = false": {"bench-1"},
    'attr.spare = "false"': set(),
    "attr.board is set": {"bench-1", "Bench-2"},
    "attr.note is set": set(),
    "attr.x is not set": {"bench-1", "Bench-2", "bare"},
    "metric.disk_free <= 10000": {"bench-1"},
    "metric.disk_free = 10000": {"bench-1", "Bench-2"},
    "metric.temperature_celsius > 41": {"bench-1"},
    "verdict.svc.latency_ms > 200": {"bench-1"},
    "verdict.svc.latency_ms is set": {"bench-1"},
    "runs.svc = 1.4.0": {"bench-1"},
    "runs.svc < 1.4.0": {"Bench-2"},
    "runs.svc <= 1.4": {"bench-1", "Bench-2"},
    "runs.svc > 1.4": set(),
    "runs.svc is set": {"bench-1", "Bench-2"},
    "runs.a.b = 2": {"bench-1"},
    "runs.svc = 1.4.0 and health = unhealthy": {"bench-1"},
    "runs.svc = 1.4.0 or type = cam": {"bench-1", "bare"},
    "not (group = field or tag = canary)": set(),
    f"deployment = {NOBODY}": set(),
    f"deployment.{NOBODY} is set": set(),
    f"deployment.{NOBODY} != failed": {"bench-1", "Bench-2", "bare"},
    "deployment is set": set(),
    "drift = true": set(),
    "drift = false": {"bench-1", "Bench-2", "bare"},
}


@pytest.mark.parametrize(("query", "names"), QUERIES.items(), ids=QUERIES)
def test_a_query_selects_devices(fleet: None, query: str, names: set[str]) -> None:
    assert {device.name for device in filter_devices(Device.objects.all(), query)} == names
    condition = Condition(query, timezone.now())
    assert {device.name for device in Device.objects.select_related("group") if condition.matches(device)} == names


def test_each_field_has_a_test() -> None:
    names = {field.name for field in query_fields().values()}
    assert [name for name in names if not any(re.search(rf"\b{name}\b", query) for query in QUERIES)] == []


@pytest.mark.parametrize("field", query_fields().values(), ids=query_fields())
def test_each_example_is_a_query(db: None, field: Any) -> None:
    list(filter_devices(Device.objects.all(), field.example))


@pytest.mark.parametrize(
    ("query", "marked", "message"),
    [
        ("agnet = 1", "agnet", "Unknown field 'agnet'. Did you mean `agent`?"),
        ("a = b and nmae ~ c", "a", "Unknown field 'a'."),
        ("attr = 5", "attr", "This field is written `attr.KEY`."),
        ("name.x = 5", "name.x", "This field is written `name`."),
        ("verdict.svc > 5", "verdict.svc", "This field is written `verdict.PRODUCT.KEY`."),
        ("name < b", "name", "`name` cannot be compared with `<`; it supports =, !=, ~."),
        ("health = ill", "ill", "'ill' is not a value of `health`; expected `healthy`"),
        ("online = maybe", "maybe", "expected `true` or `false`"),
        ("last_heartbeat < yesterday", "yesterday", "expected a time such as"),
        ("last_heartbeat < 10x ago", "10x ago", "expected a time such as"),
        ("last_heartbeat < 999999w ago", "999999w ago", "expected a time such as"),
        ("registered > 0001-01-01T00:00+10:00", "0001-01-01T00:00+10:00", "expected a time such as"),
        ("name = 10m ago", "10m ago", "expected a value, not a time"),
        ("metric.x > high", "high", "expected a number"),
        ("name. = 5", "name.", "This field is written `name`."),
        ("deployment = vad", "vad", "expected an id such as"),
        ("deployment.vad = failed", "deployment.vad", "'vad' in `deployment.ID` is not an id."),
        ("deployment.x.y = failed", "deployment.x.y", "'x.y' in `deployment.ID` is not an id."),
        (f"deployment.{NOBODY} = done", "done", "expected `skipped` or `waiting`"),
        ("drift < svc", "drift", "`drift` cannot be compared with `<`; it supports =, !=, ~."),
    ],
)
def test_an_error_marks_the_place(db: None, query: str, marked: str, message: str) -> None:
    with pytest.raises(BadQuery) as caught:
        Condition(query, timezone.now())
    error = caught.value
    assert message in error.message
    assert query[error.position : error.position + error.length] == marked


ORDERED = ["0.9", "1.0.0-alpha", "1.0.0-rc1", "1.0.0-rc1.2", "1.0.0", "1.0.0.1", "1.0.1", "1.2", "1.10", "2-beta", "2"]


def test_versions_have_an_order() -> None:
    assert all(versions.key(lower) < versions.key(higher) for lower, higher in pairwise(ORDERED))
    assert versions.key("1.0.0+build7") == versions.key("1.0.0") == versions.key("1")


TEXTS = st.sampled_from(["", "a", "A", "ab", "5", "5.0", "true", "1.4.0", "1.4.0-rc1", "1.10"])
VALUES = TEXTS | st.integers(-3, 6) | st.booleans() | st.none() | st.sampled_from([5.0, 0.1, 1e300]) | st.just([1])
DOCUMENTS = st.dictionaries(st.sampled_from(["k", "n"]), VALUES, max_size=2)
DEVICES = st.fixed_dictionaries({
    "name": TEXTS,
    "is_test": st.booleans(),
    "tags": st.lists(st.sampled_from(["a", "b:a"]), max_size=2),
    "attributes": DOCUMENTS,
    "metrics": DOCUMENTS,
    "agent_version": TEXTS,
    "reported_health": st.sampled_from(["", "healthy", "unhealthy"]),
    "state": st.sampled_from(["pending", "accepted", "decommissioned"]),
    "last_heartbeat_at": st.sampled_from([None, timedelta(0), timedelta(days=1)]),
    "running_bundles": st.dictionaries(
        st.just("svc"), st.builds(lambda version, verdict: bundle(version, verdict=verdict), TEXTS, DOCUMENTS)
    ),
})  # fmt: skip
# The device's result in the deployment `SELECTING`, and the products that drift.
PARTS = st.sampled_from([None, *RESULTS])
DRIFTS = st.sampled_from([None, [], ["svc"], ["a.b", "svc"], ["true"]])
SELECTING = "5b1f0f0e-3c1d-4b9e-8a53-0c6f2f9f7a11"
LITERALS = st.sampled_from(["a", "A", "5", '"5"', "5.0", "true", "1.4.0", "1.4.0-rc1", "1.9", "0.1", "-2"])


@st.composite
def leaves(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from(
        ["name", "tag", "attr.k", "metric.n", "verdict.svc.k", "runs.svc", "agent", "health", "online", "state", "test",
         "last_heartbeat", "id", "group", "type", "deployment", "drift",
         f"deployment.{SELECTING}", f"deployment.{NOBODY}"]
    ))  # fmt: skip
    field = next(each for each in fields_named(name.split(".")[0]) if bool(each.path) is ("." in name))
    literals = {
        "health": st.sampled_from(field.choices), "state": st.sampled_from(field.choices),
        "deployment": st.sampled_from([SELECTING, NOBODY]),
        "drift": st.sampled_from(["svc", "a", "true", "false", '"true"']),
        f"deployment.{SELECTING}": st.sampled_from(RESULTS), f"deployment.{NOBODY}": st.sampled_from(RESULTS),
        "test": st.sampled_from(["true", "false"]), "online": st.sampled_from(["true", "false"]),
        "last_heartbeat": st.sampled_from(["1h ago", "2020-01-01"]),
    }.get(name, LITERALS)  # fmt: skip
    shape = draw(st.sampled_from(["compare", "in", "set", "word"]))
    if shape == "word":
        return draw(LITERALS)
    if shape == "set":
        return f"{name} is {draw(st.sampled_from(['', 'not ']))}set"
    if shape == "in":
        return f"{name} in ({', '.join(draw(st.lists(literals, min_size=1, max_size=3)))})"
    operator = draw(st.sampled_from(field.operators))
    is_number = name.startswith(("attr", "metric", "verdict")) and operator in {"<", "<=", ">", ">="}
    return f"{name} {operator} {draw(st.sampled_from(['5', '-2', '0.1'])) if is_number else draw(literals)}"


TREES = st.recursive(
    leaves(),
    lambda inner: st.one_of(
        inner.map(lambda query: f"not ({query})"),
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]}) and ({pair[1]})"),
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]}) or ({pair[1]})"),
    ),
    max_leaves=6,
)


@pytest.fixture
def selecting(db: None) -> None:
    """The deployment `SELECTING`."""
    Deployment.objects.create(pk=SELECTING, bundle=make_bundle(), deadline_seconds=60)


def set_part(row: Device, result: str | None, products: list[str] | None) -> None:
    """Give a device this result in the deployment `SELECTING`, and these products that drift."""
    DeviceDeployment.objects.filter(device=row).delete()
    Comparison.objects.filter(device=row).delete()
    now = timezone.now()
    if result is not None:
        state = "succeeded" if result == "failed_late" else result
        DeviceDeployment.objects.create(
            deployment_id=SELECTING, device=row, product="vad", state=state, deadline_at=now,
            finished_at=now if state in FINAL_STATES else None, late_at=now if result == "failed_late" else None,
        )  # fmt: skip
    if products is not None:
        Comparison.objects.create(device=row, compared_to=now, differences={product: {} for product in products})


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=TREES, fields=DEVICES, result=PARTS, products=DRIFTS)
def test_both_back_ends_agree(
    row: Device, selecting: None, query: str, fields: dict[str, Any], result: str | None, products: list[str] | None
) -> None:
    now = datetime(2026, 11, 25, 12, tzinfo=UTC)
    age = fields["last_heartbeat_at"]
    Device.objects.filter(pk=row.pk).update(**fields | {"last_heartbeat_at": None if age is None else now - age})
    set_part(row, result, products)
    device = Device.objects.select_related("group").get(pk=row.pk)
    condition = Condition(query, now)
    sql = condition.sql()
    selected = Device.objects.extra(where=[sql.text.replace("{device}", "devices_device")], params=sql.parameters)  # noqa: S610
    assert condition.matches(device) == selected.filter(pk=row.pk).exists(), query


@pytest.mark.parametrize(
    ("query", "matches"),
    [
        (f"deployment = {SELECTING}", True),
        (f"deployment in ({NOBODY}, {SELECTING})", True),
        (f"deployment.{SELECTING} is set and deployment is set", True),
        (f"deployment.{SELECTING} in (failed, failed_late)", True),
        (f"deployment.{SELECTING} = succeeded", False),
        (f"deployment.{NOBODY} = failed_late or deployment = {NOBODY}", False),
        ("drift = true and drift = svc and drift ~ SV", True),
        ('drift = false or drift = vad or drift = "true"', False),
    ],
)
def test_a_query_asks_for_deployments_and_drift(row: Device, selecting: None, query: str, matches: bool) -> None:
    set_part(row, "failed_late", ["svc"])
    assert filter_devices(Device.objects.all(), query).exists() is matches
    assert Condition(query, timezone.now()).matches(row) is matches


def test_a_decommissioned_device_does_not_drift(row: Device) -> None:
    set_part(row, None, ["svc"])
    row.decommission("operator:alice")
    assert not filter_devices(Device.objects.all(), "drift = true").exists()


@pytest.mark.parametrize("health", ["healthy", "unhealthy", "restarting", "unknown"])
def test_the_filter_and_the_query_mean_the_same_health(fleet: None, alice: Person, health: str) -> None:
    make_device(name="gone", state="decommissioned")
    filtered, queried = alice.get(f"/devices?health={health}"), alice.get(f"/devices?q=health+%3D+{health}")
    assert filtered.json() == queried.json()


def test_the_api_filters_by_a_query(fleet: None, alice: Person) -> None:
    response = alice.get("/devices?q=runs.svc+%3D+1.4.0+and+health+%3D+unhealthy")
    assert [device["name"] for device in response.json()["results"]] == ["bench-1"]
    assert len(alice.get("/devices?q=bench&group=field").json()["results"]) == 1


def test_the_api_says_where_a_query_is_wrong(alice: Person) -> None:
    response = alice.get("/devices?q=name+%3D+a+and+agnet+%3D+1")
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (400, "invalid_query")
    assert (error["position"], error["length"]) == (13, 5)
    assert "Did you mean `agent`?" in error["message"]
    assert "agent" in error["expected"]


def test_a_query_that_takes_too_long_is_refused(fleet: None, alice: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = query_fields()
    monkeypatch.setitem(fields, "name", replace(fields["name"], sql="(SELECT 'x' FROM pg_sleep(60))"))
    monkeypatch.setattr("devices.queries.filtering.TIMEOUT_MILLISECONDS", 100)
    response = alice.get("/devices?q=name+%3D+x")
    assert (response.status_code, response.json()["error"]["code"]) == (400, "query_too_slow")
