"""GET and POST /api/v1/deployments"""

import threading
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from pytest_django import DjangoAssertNumQueries

from bundles.models import Bundle
from deployments.models import Deployment, DeviceDeployment, Phase, Selection
from deployments.planning import plan
from deployments.states import SkipReason
from deployments.termination import carry_out_cancels
from devices.models import Device
from foundation.events.models import Event
from tests.devices.operators import Person
from tests.factories import complete, make_bundle, make_deployment, make_device, make_device_deployment, make_group


def test_it_records_the_deployment_and_returns(alice: Person, bundle: Bundle) -> None:
    field = make_group("field")
    device = make_device(group=field)
    answer = alice.post(
        "/deployments",
        {
            "bundle": "vad@1.0.0",
            "groups": ["field"],
            "devices": [str(device.pk)],
            "deadline_seconds": 600,
            "note": "the first of all",
        },
    )
    assert answer.status_code == 201, answer.content
    body = answer.json()
    assert (body["bundle"], body["state"], body["reason_code"]) == ("vad@1.0.0", "planning", "")
    assert sum(body["counts"].values()) == 0
    assert body["skipped"] == dict.fromkeys(SkipReason.values, 0)
    assert (body["note"], body["deadline_seconds"]) == ("the first of all", 600)
    deployment = Deployment.objects.get(pk=body["id"])
    assert deployment.created_by is not None
    assert deployment.created_by.get_username() == "alice"
    selection = Selection.objects.get(deployment=deployment)
    assert (selection.groups, selection.devices) == ([field.pk], [device.pk])
    phase = Phase.objects.get(deployment=deployment)
    assert (phase.number, phase.state, phase.device_count) == (1, "pending", 0)
    assert not DeviceDeployment.objects.exists()
    event = Event.objects.get(kind="deployment.started")
    assert (event.actor, event.bundle_id, event.deployment_id) == ("operator:alice", bundle.pk, deployment.pk)


@pytest.mark.parametrize(
    ("group", "reason"),
    [
        ("empty", "the chosen groups are empty"),
        ("pending", "none of the chosen devices is accepted (approve the pending ones)"),
        ("old", "all chosen devices are decommissioned"),
    ],
)
def test_a_selection_without_an_accepted_device_is_refused(
    alice: Person, bundle: Bundle, group: str, reason: str
) -> None:
    make_group("empty")
    make_device(state="pending", group=make_group("pending"))
    make_device(state="decommissioned", group=make_group("old"))
    answer = alice.post("/deployments", {"bundle": "vad@1.0.0", "groups": [group]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "no_devices")
    assert answer.json()["error"]["message"] == f"No device can receive vad@1.0.0: {reason}."
    assert not Deployment.objects.exists()


@pytest.mark.parametrize("state", ["draft", "verifying", "withdrawn"])
def test_only_ready_bundles_are_deployed(alice: Person, state: str) -> None:
    make_bundle("vad@1.0.0", state=state)
    make_device()
    answer = alice.post("/deployments", {"bundle": "vad@1.0.0", "groups": ["lab"]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "bundle_not_ready")


def test_unknown_groups_and_devices_are_named(alice: Person, bundle: Bundle) -> None:
    make_device()
    unknown = str(uuid4())
    answer = alice.post("/deployments", {"bundle": "vad@1.0.0", "groups": ["lab", "moon", "mars"]})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "unknown_groups"
    assert answer.json()["error"]["groups"] == ["mars", "moon"]
    answer = alice.post("/deployments", {"bundle": "vad@1.0.0", "groups": ["lab"], "devices": [unknown]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unknown_devices")
    assert answer.json()["error"]["devices"] == [unknown]
    answer = alice.post("/deployments", {"bundle": "vad@9.9.9", "groups": ["lab"]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_bundle")
    answer = alice.post("/deployments", {"bundle": "vad@1.0.0"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "nobody_chosen")
    assert not Deployment.objects.exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"bundle": None},
        {"bundle": "x" * 128},
        {"groups": "lab"},
        {"groups": [None]},
        {"groups": [["lab"]]},
        {"groups": ["x" * 101]},
        {"devices": ["not-a-uuid"]},
        {"devices": [1.5]},
        {"devices": {}},
        {"deadline_seconds": 0},
        {"deadline_seconds": -1},
        {"deadline_seconds": 10**12},
        {"deadline_seconds": "soon"},
        {"note": "x" * 501},
    ],
)
def test_malformed_requests_are_refused(alice: Person, bundle: Bundle, wrong: dict[str, Any]) -> None:
    make_device()
    answer = alice.post("/deployments", {"bundle": "vad@1.0.0", "groups": ["lab"], **wrong})
    assert answer.status_code == 400, answer.content
    assert not Deployment.objects.exists()


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b'{"bundle": "a\\u0000b", "groups": ["lab"]}'])
def test_other_bodies_are_refused(alice: Person, body: bytes) -> None:
    assert alice.post("/deployments", body).status_code == 400


def test_only_operators_deploy(victor: Person, stranger: Person, bundle: Bundle) -> None:
    make_device()
    body = {"bundle": "vad@1.0.0", "groups": ["lab"]}
    assert victor.post("/deployments", body).status_code == 403
    assert stranger.post("/deployments", body).status_code == 401
    assert stranger.get("/deployments").status_code == 401
    assert victor.get("/deployments").status_code == 200


def test_two_requests_start_two_deployments(alice: Person, bundle: Bundle) -> None:
    make_device()
    body = {"bundle": "vad@1.0.0", "groups": ["lab"]}
    first, second = alice.post("/deployments", body).json(), alice.post("/deployments", body).json()
    assert first["id"] != second["id"]


def test_the_list_is_newest_first_and_paged(alice: Person, bundle: Bundle) -> None:
    device = make_device()
    ids = [str(make_deployment(bundle, device).pk) for _ in range(3)]
    page = alice.get("/deployments?page_size=2").json()
    assert [deployment["id"] for deployment in page["results"]] == [ids[2], ids[1]]
    next_page = alice.get(page["next"].partition("/api/v1")[2]).json()
    assert [deployment["id"] for deployment in next_page["results"]] == [ids[0]]
    assert next_page["next"] is None


def test_the_list_is_filtered(alice: Person, bundle: Bundle) -> None:
    device = make_device()
    running = str(make_deployment(make_bundle("asr@2.0.0"), device).pk)
    finished = str(make_device_deployment("succeeded", device=device, bundle=bundle).deployment_id)
    complete()

    def ids(query: str) -> list[str]:
        return [deployment["id"] for deployment in alice.get(f"/deployments?{query}").json()["results"]]

    assert ids("state=running") == [running]
    assert ids("state=finished") == [finished]
    assert ids("bundle=vad") == ids("bundle=vad@1.0.0") == [finished]
    assert ids("bundle=vad@2.0.0") == []
    assert alice.get("/deployments?state=lost").status_code == 400
    assert alice.get("/deployments?bundle=%00").status_code == 400
    unknown = alice.get("/deployments?bundel=vad")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (400, "unknown_parameter")


def test_more_deployments_cost_no_more_queries(
    alice: Person, bundle: Bundle, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(3):
        make_device_deployment("succeeded", device=make_device())
    complete()
    for _ in range(3):
        make_device_deployment("offered", device=make_device())
    alice.get("/deployments")
    # The token, its rate limit, the page, the phases and their counts, the counts of what runs, the successes under
    # observation, and three for what happens next.
    with django_assert_num_queries(10):
        answer = alice.get("/deployments").json()
    counts = [(row["counts"]["offered"], row["counts"]["succeeded"]) for row in answer["results"]]
    assert counts == [(1, 0)] * 3 + [(0, 1)] * 3


def make_many_devices(count: int) -> None:
    """Add accepted devices to the group `lab`, in one statement."""
    template = make_device()
    names = [field.attname for field in Device._meta.concrete_fields]
    columns = ", ".join(name for name in names if name not in {"id", "public_key"})
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO devices_device (id, public_key, {columns})"  # noqa: S608
            f" SELECT gen_random_uuid(), md5(number::text), {columns}"
            " FROM devices_device, generate_series(2, %s) AS number WHERE id = %s",
            [count, template.pk],
        )


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("devices", [1, 20_000])
def test_starting_and_cancelling_cost_the_same_for_any_number_of_devices(
    alice: Person, bundle: Bundle, devices: int, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    make_many_devices(devices)
    alice.get("/deployments")
    # The token, its rate limit, bundle and group; in a transaction: is the bundle ready, is a device accepted, the
    # deployment with its phases, selection and event; the phases, what happens next, and all counts.
    with django_assert_num_queries(18):
        answer = alice.post("/deployments", {"bundle": "vad@1.0.0", "groups": ["lab"]})
    assert answer.json()["state"] == "planning"
    plan()
    path = f"/deployments/{answer.json()['id']}"
    assert alice.get(path).json()["counts"]["waiting"] == devices
    # The token, its rate limit, the deployment; in a transaction: its state and the event; the deployment again, its
    # phases, what happens next, and all counts.
    with django_assert_num_queries(15):
        assert alice.post(f"{path}/cancel").json()["state"] == "cancelled"
    assert carry_out_cancels() == devices
    complete()
    assert alice.get(path).json()["counts"]["cancelled"] == devices


@pytest.mark.django_db(transaction=True)
def test_concurrent_operators_start_one_deployment_each(bundle: Bundle) -> None:
    device = make_device()
    errors: list[BaseException] = []

    def deploy() -> None:
        try:
            make_deployment(bundle, device)
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=deploy) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert DeviceDeployment.objects.filter(device=device, state="waiting").count() == 4
