"""Previews: they say what planning then does, and change nothing."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from bundles.models import Bundle
from deployments import planning
from deployments.definition import Definition, start
from deployments.models import Deployment, DeviceDeployment, Phase, Preview
from deployments.phases.definition import PhaseDefinition
from deployments.planning import plan
from deployments.previews import counting
from deployments.previews.counting import Counts, compute_previews, delete_old_previews, start_preview
from deployments.previews.outlook import outlook
from devices.models import Group
from foundation.errors import BadRequest, Conflict
from foundation.events.models import Event
from tests.devices.operators import Person
from tests.factories import make_bundle, make_device, make_device_deployment, make_group

pytestmark = pytest.mark.django_db
PHASES = (PhaseDefinition(count=2), PhaseDefinition(percent=50), PhaseDefinition())


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "BATCH", 3)


def runs(bundle: Bundle) -> dict[str, Any]:
    return {"running_bundles": {bundle.name: {"version": bundle.version, "manifest_sha256": bundle.manifest_sha256}}}


def make_fleet(target: Bundle) -> list[UUID]:
    """Create devices of which many cannot take part. Return the ids of two devices that are named one by one."""
    now = timezone.now()
    older, newer = make_bundle("vad@0.9.0"), make_bundle("vad@2.0.0", release_counter=9)
    for number in range(7):
        make_device(name=f"plain-{number}", last_heartbeat_at=now, tags=[f"site-{number % 2}"])
    for days in (0.03, 0.5, 3, 30):
        make_device(last_heartbeat_at=now - timedelta(days=days), **runs(older))
    make_device()
    make_device(last_heartbeat_at=now, **runs(newer))
    make_device(last_heartbeat_at=now, **runs(target))
    make_device(state="pending")
    make_device(device_type="toaster")
    make_device(hardware={"memory": 1000})
    make_device(metrics={"disk_free": 10})
    make_device(tags=["old"])
    make_device(state="decommissioned")
    elsewhere = make_group("elsewhere")
    return [make_device(group=elsewhere).pk, make_device(group=elsewhere, state="decommissioned").pk]


@pytest.mark.parametrize("size", [3, 5000])
@pytest.mark.parametrize("strata", [[], ["type", "tag:site-"]])
def test_a_preview_and_the_plan_agree(monkeypatch: pytest.MonkeyPatch, size: int, strata: list[str]) -> None:
    monkeypatch.setattr(counting, "BATCH", size)
    target = make_bundle("vad@1.0.0", device_types=["edge"], requires={"memory": 2000, "disk": 100}, release_counter=5)
    named = make_fleet(target)
    Group.objects.create(name="tagged", query="tag = site-0 or health = unknown")
    definition = Definition(
        target, groups=["lab", "tagged"], devices=named, exclude="tag = old", phases=PHASES, strata=strata
    )
    preview = start_preview(definition)
    compute_previews()
    preview.refresh_from_db()
    said = outlook(preview)

    deployment = start(definition, actor="operator:alice")
    plan()
    deployment.refresh_from_db()
    rows = DeviceDeployment.objects.filter(deployment=deployment)
    assert preview.state == "ready"
    assert said.visited >= rows.count()
    assert said.device_count == deployment.device_count > 0
    assert said.skipped == deployment.skipped_counts
    assert len(said.skipped) == 8
    assert [phase.device_count for phase in said.phases] == list(
        Phase.objects.filter(deployment=deployment).values_list("device_count", flat=True)
    )
    assert said.strata == deployment.stratum_sizes
    for reason, devices in said.samples.items():
        planned = rows.filter(reason_code=reason, state="skipped" if reason else "waiting")
        assert {device.pk for device in devices} <= set(planned.values_list("device_id", flat=True))
        assert devices


def test_a_preview_changes_nothing(bundle: Bundle) -> None:
    make_device()
    events = Event.objects.count()
    start_preview(Definition(bundle, groups=["lab"]))
    assert Event.objects.count() == events
    assert not Deployment.objects.exists()
    assert not DeviceDeployment.objects.exists()


def test_a_selection_by_a_dynamic_group_is_previewed(bundle: Bundle) -> None:
    Group.objects.create(name="north", query="tag = north")
    make_device(tags=["north"])
    make_device()
    assert outlook(start_preview(Definition(bundle, groups=["north"]))).device_count == 1


def test_too_many_strata_are_not_mixed(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planning does not mix them either."""
    monkeypatch.setattr(counting, "MAX_MIXED_STRATA", 2)
    monkeypatch.setattr(planning, "MAX_MIXED_STRATA", 2)
    for number in range(3):
        make_device(tags=[f"site-{number}"])
    definition = Definition(bundle, groups=["lab"], strata=["tag:site-"])
    found = outlook(start_preview(definition))
    deployment = start(definition, actor="operator:alice")
    plan()
    deployment.refresh_from_db()
    assert found.device_count == 3
    assert found.strata == deployment.stratum_sizes == {}
    assert found.phases[0].strata == {}


def test_the_limit_of_all_phases_limits_each(bundle: Bundle) -> None:
    for _ in range(100):
        make_device()
    phases = (PhaseDefinition(percent=50, success_threshold_percent=0), PhaseDefinition())
    definition = Definition(bundle, groups=["lab"], phases=phases, max_bad=2)
    assert [phase.tolerated for phase in outlook(start_preview(definition)).phases] == [2, 2]


def test_a_phase_says_how_many_failures_it_tolerates(bundle: Bundle) -> None:
    for _ in range(40):
        make_device()
    phases = (PhaseDefinition(count=5), PhaseDefinition(percent=100, success_threshold_percent=0), PhaseDefinition())
    found = outlook(start_preview(Definition(bundle, groups=["lab"], phases=phases)))
    assert [(phase.devices, phase.device_count, phase.tolerated) for phase in found.phases] == [
        (5, 5, 0), (35, 40, 3), (0, 40, 0),
    ]  # fmt: skip


def test_the_devices_of_each_stratum_are_divided_among_the_phases(bundle: Bundle) -> None:
    for number in range(10):
        make_device(device_type="edge" if number < 8 else "hub")
    definition = Definition(
        bundle, groups=["lab"], phases=(PhaseDefinition(count=5), PhaseDefinition()), strata=["type"]
    )
    found = outlook(start_preview(definition))
    assert [phase.strata for phase in found.phases] == [{"edge": 4, "hub": 1}, {"edge": 4, "hub": 1}]


def test_only_what_devices_lack_is_counted_as_transfer() -> None:
    old = make_bundle("vad@1.0.0", {"model": b"m" * 1000, "code": b"1" * 10})
    new = make_bundle("vad@2.0.0", {"model": b"m" * 1000, "copy": b"m" * 1000, "code": b"2" * 20})
    for _ in range(3):
        make_device(**runs(old))
    make_device()
    make_device(running_bundles={"vad": {"version": "unknown", "manifest_sha256": "f" * 64}})
    found = outlook(start_preview(Definition(new, groups=["lab"])))
    assert sorted((each.running, each.devices, each.bytes) for each in found.transfers) == [
        ("", 1, 1020), ("", 1, 1020), ("1.0.0", 3, 20),
    ]  # fmt: skip
    assert found.total_bytes == 2 * 1020 + 3 * 20


def test_silent_devices_are_counted_by_how_long_they_have_been_silent(bundle: Bundle) -> None:
    make_fleet(bundle)
    found = outlook(start_preview(Definition(bundle, groups=["lab"])))
    assert {name: count for name, count in found.silences.items() if name != "never"} == {
        "reachable": 7, "hour": 1, "day": 1, "week": 1, "longer": 1,
    }  # fmt: skip
    assert found.unreachable == found.device_count - 7


def test_the_expected_time_comes_from_past_successes(bundle: Bundle) -> None:
    make_device()
    definition = Definition(
        bundle, groups=["lab"], phases=(PhaseDefinition(count=1, soak_seconds=60), PhaseDefinition())
    )
    assert outlook(start_preview(definition)).expected_seconds is None
    now = timezone.now()
    for seconds in (10, 30, 500):
        row = make_device_deployment("succeeded")
        DeviceDeployment.objects.filter(pk=row.pk).update(offered_at=now - timedelta(seconds=seconds), finished_at=now)
    assert outlook(start_preview(definition)).expected_seconds == 30 + 60 + 30


def test_a_large_fleet_is_counted_by_the_scheduler(small_batches: None, bundle: Bundle) -> None:
    for _ in range(8):
        make_device()
    preview = start_preview(Definition(bundle, query="type = edge"))
    assert (preview.state, outlook(preview).device_count) == ("computing", 3)
    compute_previews()
    preview.refresh_from_db()
    assert (preview.state, outlook(preview).device_count) == ("ready", 8)
    assert compute_previews() == 0


def test_rare_strata_and_releases_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "MAX_MANIFESTS_COUNTED", 2)
    counts = Counts()
    counts.add(2, {"reasons": None, "samples": None, "strata": None, "silences": None, "manifests": {"a": 1, "b": 1}})
    counts.add(3, {"reasons": None, "samples": None, "strata": None, "silences": None, "manifests": {"a": 1, "c": 2}})
    assert counts.manifests == {"a": 2, "b": 1, "(others)": 2}


def test_a_query_that_cannot_be_evaluated_ends_the_preview(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    make_device()

    def refuse(*arguments: Any) -> None:
        raise BadRequest("invalid_query", "No.")

    monkeypatch.setattr(counting, "judged_devices", refuse)
    preview = start_preview(Definition(bundle, query="type = edge"))
    assert (preview.state, preview.reason_code) == ("failed", "query_failed")


def test_the_errors_are_those_of_a_start(bundle: Bundle) -> None:
    with pytest.raises(BadRequest, match="Name at least one"):
        start_preview(Definition(bundle))
    with pytest.raises(Conflict, match="the chosen groups are empty"):
        start_preview(Definition(bundle, groups=[make_group("empty").name]))
    assert not Preview.objects.exists()


def test_old_previews_are_deleted(bundle: Bundle) -> None:
    make_device()
    preview = start_preview(Definition(bundle, groups=["lab"]))
    Preview.objects.update(created_at=timezone.now() - timedelta(days=1, seconds=1))
    kept = start_preview(Definition(bundle, groups=["lab"]))
    assert delete_old_previews() == 1
    assert list(Preview.objects.all()) == [kept]
    assert preview != kept


def test_a_preview_costs_the_same_queries_for_any_fleet(
    bundle: Bundle, django_assert_max_num_queries: Any, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(3):
        make_device()
    definition = Definition(bundle, groups=["lab"])
    with django_assert_max_num_queries(25) as first:
        outlook(start_preview(definition))
    for _ in range(30):
        make_device()
    with django_assert_num_queries(len(first)):
        outlook(start_preview(definition))


def test_the_api_previews_a_deployment(alice: Person, bundle: Bundle) -> None:
    device = make_device(name="edge-1")
    make_device(state="pending")
    response = alice.post("/deployments/preview", {"bundle": "vad@1.0.0", "groups": ["lab"]})
    assert response.status_code == 201, response.content
    body = response.json()
    assert (body["state"], body["bundle"], body["reason_code"]) == ("ready", "vad@1.0.0", "")
    said = body["outlook"]
    assert (said["device_count"], said["skipped"]["not_accepted"]) == (1, 1)
    assert said["samples"][""] == [{"id": str(device.pk), "name": "edge-1"}]
    assert said["phases"][0]["devices"] == 1
    assert alice.get(f"/deployments/previews/{body['id']}").json() == body
    assert not Deployment.objects.exists()


def test_an_unknown_preview_is_not_found(alice: Person) -> None:
    assert alice.get(f"/deployments/previews/{uuid4()}").status_code == 404


def test_only_those_who_deploy_may_preview(victor: Person, bundle: Bundle) -> None:
    make_device()
    assert victor.post("/deployments/preview", {"bundle": "vad@1.0.0", "groups": ["lab"]}).status_code == 403
