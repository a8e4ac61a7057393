"""Planning: every selected device that can take part gets one device deployment."""

import threading
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from bundles.models import Bundle
from deployments import planning
from deployments.definition import Definition, start
from deployments.models import Deployment, DeviceDeployment, Phase, Selection
from deployments.offers import offer
from deployments.planning import plan
from deployments.progress import outcome_of
from deployments.termination import carry_out_cancels, end_decommissioned, end_withdrawn
from devices.models import Command, Device, Group
from devices.queries.registry import query_fields
from foundation.errors import BadRequest
from foundation.events.models import Event
from tests.factories import complete, make_bundle, make_deployment, make_device, make_group, make_planning_deployment

pytestmark = pytest.mark.django_db
ALICE = "operator:alice"


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "BATCH", 3)


@pytest.fixture
def one_batch_each_run(monkeypatch: pytest.MonkeyPatch, small_batches: None) -> None:
    """Stop each run of the task after one batch."""
    monkeypatch.setattr(planning, "RUN_SECONDS", 0)


def start_on(bundle: Bundle, *groups: Group, devices: Any = ()) -> Deployment:
    definition = Definition(bundle, groups=[group.name for group in groups], devices=[device.pk for device in devices])
    return start(definition, actor=ALICE)


def planned_devices(deployment: Deployment) -> list[Any]:
    rows = DeviceDeployment.objects.filter(deployment=deployment).exclude(state="skipped").order_by("device_id")
    return list(rows.values_list("device_id", flat=True))


def ids(*devices: Device) -> list[Any]:
    return sorted(device.pk for device in devices)


def test_it_plans_groups_and_devices_once(bundle: Bundle) -> None:
    field = make_group("field")
    group_devices = [make_device(group=field) for _ in range(2)]
    single, _other = make_device(), make_device()
    deployment = start_on(bundle, field, devices=[single, group_devices[0]])
    assert plan() == 3
    assert planned_devices(deployment) == ids(*group_devices, single)
    rows = DeviceDeployment.objects.filter(deployment=deployment)
    assert {(row.state, row.product, row.attempt) for row in rows} == {("waiting", "vad", 1)}
    deployment.refresh_from_db()
    assert (deployment.state, deployment.reason_code) == ("running", "")
    phase = Phase.objects.get(deployment=deployment)
    assert (phase.state, phase.device_count) == ("filling", 3)
    event = Event.objects.get(kind="deployment.planned")
    assert (event.message, event.data["devices"]) == ("vad@1.0.0 is being deployed to 3 devices.", 3)
    assert plan() == 0


def test_it_counts_devices_that_cannot_take_part() -> None:
    bundle = make_bundle("vad@1.0.0", device_types=["edge", "cam"])
    group = make_group("lab")
    make_device(device_type="edge")
    make_device(device_type="arm")
    make_device(state="pending")
    make_device(state="decommissioned")
    named = make_device(state="decommissioned", group=make_group("elsewhere"))
    deployment = start_on(bundle, group, devices=[named])
    plan()
    deployment.refresh_from_db()
    # A decommissioned device counts only if the operator named it.
    assert deployment.skipped == {"not_accepted": 1, "decommissioned": 1, "wrong_device_type": 1}
    assert len(planned_devices(deployment)) == 1


def running(bundle: Bundle, **fields: Any) -> dict[str, Any]:
    """What a device reports that runs the bundle."""
    return {bundle.name: {"version": bundle.version, "manifest_sha256": bundle.manifest_sha256, **fields}}


def test_every_skipped_device_has_a_reason() -> None:
    older = make_bundle("vad@0.9.0", release_counter=1)
    bundle = make_bundle("vad@1.0.0", device_types=["edge"], release_counter=2, requires={"memory": 1000, "disk": 500})
    newer = make_bundle("vad@0.8.0", release_counter=3)  # the counter says so, not the version
    reasons = {
        make_device(tags=["spare"]): "excluded",
        make_device(state="pending"): "not_accepted",
        make_device(state="decommissioned"): "decommissioned",
        make_device(device_type="cam"): "wrong_device_type",
        make_device(running_bundles=running(bundle)): "already_running",
        make_device(running_bundles=running(bundle, healthy=True)): "already_running",
        make_device(running_bundles=running(bundle, healthy=False)): "",
        make_device(running_bundles=running(newer)): "newer_running",
        make_device(running_bundles=running(older)): "",
        make_device(hardware={"memory": 999}): "no_memory",
        make_device(hardware={"memory": 1000}): "",
        make_device(hardware={"memory": 0}): "",  # unknown
        make_device(hardware={"memory": "plenty"}): "",
        make_device(metrics={"disk_free": 499}): "no_space",
        make_device(metrics={"disk_free": 500}): "",
        make_device(): "",
    }
    deployment = make_deployment(bundle, *reasons, exclude="tag = spare")
    rows = {row.device_id: row for row in DeviceDeployment.objects.filter(deployment=deployment)}
    assert {device: rows[device.pk].reason_code for device in reasons} == reasons
    for device, reason in reasons.items():
        row = rows[device.pk]
        assert (row.state, row.finished_at is None) == (("skipped", False) if reason else ("waiting", True))
    assert deployment.device_count == len([reason for reason in reasons.values() if not reason])
    assert deployment.skipped == Counter(filter(None, reasons.values()))


def test_a_downgrade_has_to_be_allowed() -> None:
    older, newer = make_bundle("vad@1.0.0", release_counter=1), make_bundle("vad@2.0.0", release_counter=2)
    device = make_device(running_bundles=running(newer))
    assert make_deployment(older, device).skipped == {"newer_running": 1}
    assert make_deployment(older, device, allow_downgrade=True).device_count == 1


def test_a_device_that_is_about_to_change_is_not_skipped(bundle: Bundle) -> None:
    """It runs the bundle, but an unfinished deployment will replace it before this one is offered."""
    device = make_device(running_bundles=running(bundle))
    make_deployment(make_bundle("vad@2.0.0"), device)
    assert make_deployment(bundle, device).device_count == 1


def test_deploying_what_runs_everywhere_has_succeeded(bundle: Bundle) -> None:
    device, other = make_device(running_bundles=running(bundle)), make_device(device_type="cam")
    deployment = make_deployment(bundle, device)
    assert (deployment.state, outcome_of(deployment, {})) == ("finished", "succeeded")
    unsuitable = make_deployment(make_bundle("vad@3.0.0", device_types=["edge"]), other)
    assert (unsuitable.state, outcome_of(unsuitable, {})) == ("finished", "incomplete")


@pytest.mark.parametrize("others", [0, 20])
def test_a_query_selects_devices_and_another_leaves_some_out(bundle: Bundle, small_batches: None, others: int) -> None:
    """Batches of a query are found in the order of ids, with devices of groups and named ones."""
    make_group("lab")
    field = make_group("field")
    matching = [make_device(group=field, attributes={"board": "r5"}) for _ in range(8)]
    for state in ("pending", "decommissioned"):
        make_device(group=field, attributes={"board": "r5"}, state=state)
    in_group = make_device(group=make_group("shelf"), attributes={"board": "r4"})
    named = make_device(group=field)
    make_device(group=field, attributes={"board": "r5"}, tags=["canary"])
    named_canary = make_device(group=field, tags=["canary"])
    for _ in range(others):
        make_device(group=field)
    devices = [named.pk, named_canary.pk]
    definition = Definition(bundle, ["shelf"], devices, query="attr.board = r5", exclude="tag = canary")
    deployment = start(definition, actor=ALICE)
    plan()
    deployment.refresh_from_db()
    assert planned_devices(deployment) == ids(*matching, in_group, named)
    assert deployment.skipped == {"not_accepted": 1, "excluded": 2}


def test_relative_times_of_a_query_count_from_the_start(bundle: Bundle) -> None:
    """Otherwise a device could match in one batch and not in a later one."""
    device = make_device(last_heartbeat_at=timezone.now() - timedelta(minutes=5))
    deployment = start(Definition(bundle, query="last_heartbeat > 10m ago"), actor=ALICE)
    Deployment.objects.filter(pk=deployment.pk).update(created_at=timezone.now() + timedelta(minutes=30))
    plan()
    assert planned_devices(deployment) == []
    deployment = start(Definition(bundle, query="last_heartbeat > 10m ago"), actor=ALICE)
    plan()
    assert planned_devices(deployment) == ids(device)


@pytest.mark.parametrize("query", ["unknown_field = 1", "metric.n > 1"])
def test_a_query_that_cannot_be_evaluated_does_not_stop_other_deployments(
    bundle: Bundle, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later release may not know a stored query, and PostgreSQL may refuse its values."""
    fields, sql = query_fields(), "to_jsonb(1 / (%(path_0)s = '')::int)"
    monkeypatch.setitem(fields, "metric.KEY", replace(fields["metric.KEY"], sql=sql))
    device = make_device()
    failing = start(Definition(bundle, query="name = x"), actor=ALICE)
    Selection.objects.filter(pk=failing.pk).update(query=query)
    other = start(Definition(bundle, devices=[device.pk]), actor=ALICE)
    plan()
    failing.refresh_from_db()
    other.refresh_from_db()
    assert (failing.state, failing.reason_code, other.state) == ("cancelled", "query_failed", "running")
    assert "its query cannot be evaluated" in Event.objects.get(kind="deployment.cancelled").message


@pytest.mark.parametrize("fields", [{"query": "agnet = 1"}, {"query": "a", "exclude": "("}])
def test_a_wrong_query_is_refused(bundle: Bundle, fields: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as caught:
        start(Definition(bundle, **fields), actor=ALICE)
    assert caught.value.code == "invalid_query"
    assert not Deployment.objects.exists()


def test_a_deployment_without_a_suitable_device_ends_with_a_reason() -> None:
    make_device(device_type="edge")
    deployment = start_on(make_bundle("vad@1.0.0", device_types=["cam"]), make_group())
    plan()
    deployment.refresh_from_db()
    assert (deployment.state, deployment.reason_code) == ("finished", "no_devices")
    assert deployment.finished_at is not None
    event = Event.objects.get(kind="deployment.finished")
    assert event.data["reason_code"] == "no_devices"
    assert event.message == (
        "The deployment of vad@1.0.0 ended: no device can take part (1 of a device type that the bundle is not for)."
    )
    assert complete() == 0


@pytest.mark.parametrize("others", [0, 20])
def test_batches_add_up(bundle: Bundle, small_batches: None, others: int) -> None:
    """Small selections are looked up by key, large ones scanned in order; other devices in the fleet do not matter."""
    group = make_group("field")
    group_devices = [make_device(group=group) for _ in range(8)]
    pending = [make_device(group=group, state="pending") for _ in range(3)]
    named = make_device(group=make_group("elsewhere"))
    for _ in range(others):
        make_device()
    deployment = start_on(bundle, group, devices=[named, group_devices[0], pending[0]])
    plan()
    deployment.refresh_from_db()
    assert planned_devices(deployment) == ids(*group_devices, named)
    assert deployment.skipped == {"not_accepted": 3}
    assert Phase.objects.get().device_count == 9
    assert deployment.state == "running"


def test_a_selection_of_single_devices_is_planned_in_batches(bundle: Bundle, small_batches: None) -> None:
    devices = [make_device() for _ in range(7)]
    deployment = start_on(bundle, devices=devices)
    assert plan() == 7
    assert planned_devices(deployment) == ids(*devices)


def test_nothing_is_offered_or_finished_during_planning(bundle: Bundle, one_batch_each_run: None) -> None:
    for _ in range(8):
        make_device()
    deployment = start_on(bundle, make_group())
    assert plan() == 3
    assert offer() == complete() == 0
    deployment.refresh_from_db()
    assert (deployment.state, len(planned_devices(deployment))) == ("planning", 3)
    assert not Command.objects.exists()
    while plan():
        pass
    assert offer() == 8


def test_deployments_are_planned_oldest_first(bundle: Bundle, one_batch_each_run: None) -> None:
    device = make_device()
    first, second = make_planning_deployment(bundle, device), make_planning_deployment(bundle, device)
    plan()
    assert Deployment.objects.get(pk=first.pk).state == "running"
    assert Deployment.objects.get(pk=second.pk).state == "planning"


def test_one_run_plans_many_small_deployments(bundle: Bundle) -> None:
    device = make_device()
    for _ in range(5):
        make_planning_deployment(bundle, device)
    assert plan() == 5
    assert Deployment.objects.running().count() == 5


def test_cancelling_stops_planning(bundle: Bundle, one_batch_each_run: None) -> None:
    for _ in range(8):
        make_device()
    deployment = start_on(bundle, make_group())
    plan()
    deployment.cancel(ALICE)
    assert plan() == 0
    assert carry_out_cancels() == 3
    assert complete() == 1
    deployment.refresh_from_db()
    assert (deployment.state, deployment.final_counts) == ("cancelled", {"cancelled": 3})
    assert Phase.objects.get().state == "skipped"


@pytest.mark.parametrize("first", ["end_withdrawn", "carry_out_cancels"])
def test_withdrawing_the_bundle_stops_planning(bundle: Bundle, one_batch_each_run: None, first: str) -> None:
    for _ in range(8):
        make_device()
    deployment = start_on(bundle, make_group())
    plan()
    bundle.withdraw(actor=ALICE)
    plan()
    for task in (end_withdrawn, carry_out_cancels) if first == "end_withdrawn" else (carry_out_cancels, end_withdrawn):
        task()
    assert complete() == 1
    deployment.refresh_from_db()
    assert (deployment.state, deployment.reason_code) == ("cancelled", "bundle_withdrawn")
    rows = DeviceDeployment.objects.filter(deployment=deployment)
    assert {(row.state, row.reason_code) for row in rows} == {("cancelled", "bundle_withdrawn")}
    event = Event.objects.get(kind="deployment.cancelled")
    assert (event.actor, event.data["reason_code"]) == ("scheduler", "bundle_withdrawn")


def test_decommissioning_a_device_before_and_after_its_batch(bundle: Bundle, one_batch_each_run: None) -> None:
    devices = sorted((make_device() for _ in range(8)), key=lambda device: device.pk)
    deployment = start_on(bundle, make_group())
    plan()
    for device in (devices[0], devices[7]):
        device.decommission(ALICE)
    while plan():
        pass
    assert planned_devices(deployment) == ids(*devices[:7])
    assert end_decommissioned() == 1
    row = DeviceDeployment.objects.get(device=devices[0])
    assert (row.state, row.reason_code) == ("cancelled", "decommissioned")
    assert offer() == 6


def test_a_devices_group_is_the_group_when_its_batch_is_planned(bundle: Bundle, one_batch_each_run: None) -> None:
    field, other = make_group("field"), make_group("other")
    devices = sorted((make_device(group=field) for _ in range(8)), key=lambda device: device.pk)
    late = make_device(group=other, id="ffffffff-ffff-4fff-bfff-ffffffffffff")
    deployment = start_on(bundle, field)
    plan()
    for device in (devices[0], devices[7]):
        device.edit(ALICE, group=other)
    late.edit(ALICE, group=field)
    while plan():
        pass
    # The first device left the group after its batch, the last one before; one device joined in time.
    assert planned_devices(deployment) == sorted([*ids(*devices[:7]), Device.objects.get(pk=late.pk).pk])


def test_groups_may_be_renamed_or_removed_before_planning(bundle: Bundle) -> None:
    group, empty = make_group("field"), make_group("empty")
    device = make_device(group=group)
    deployment = start_on(bundle, group, empty)
    group.edit(ALICE, name="renamed")
    empty.delete()
    plan()
    assert planned_devices(deployment) == [device.pk]


@pytest.mark.django_db(transaction=True)
def test_schedulers_do_not_plan_the_same_deployment_at_once(bundle: Bundle, small_batches: None) -> None:
    for _ in range(40):
        make_device()
    deployment = start_on(bundle, make_group())

    def plan_in_another_session() -> None:
        while plan():
            pass
        connection.close()

    threads = [threading.Thread(target=plan_in_another_session) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while plan():
        pass
    assert len(planned_devices(deployment)) == Phase.objects.get().device_count == 40


def test_a_scheduler_of_the_previous_version_does_not_finish_a_planned_deployment(bundle: Bundle) -> None:
    """It does not support planning, sees no unfinished device deployment, and sets the time of the end."""
    deployment = make_planning_deployment(bundle, make_device())
    with pytest.raises(IntegrityError, match="deployment_planning_is_unfinished"), transaction.atomic():
        Deployment.objects.filter(pk=deployment.pk).update(finished_at=timezone.now(), final_counts={})
    plan()
    deployment.refresh_from_db()
    assert deployment.state == "running"


def test_the_previous_version_can_still_insert_rows(bundle: Bundle) -> None:
    """Its INSERT does not name the new columns."""
    device_deployment = make_planning_deployment(bundle, make_device())
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO deployments_deployment (id, bundle_id, state, note, deadline_seconds, skipped, final_counts,"
            " created_at) SELECT gen_random_uuid(), bundle_id, 'running', '', 60, '{}', '{}', now()"
            " FROM deployments_deployment WHERE id = %s",
            [device_deployment.pk],
        )
    assert Deployment.objects.running().get().reason_code == ""
