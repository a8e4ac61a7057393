"""GET and POST /api/v1/deployments"""

import threading
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from pytest_django import DjangoAssertNumQueries

from bundles.models import Bundle
from deployments.models import Deployment, DeviceDeployment, Phase
from deployments.termination import finish
from foundation.events.models import Event
from tests.devices.operators import Person
from tests.factories import make_bundle, make_deployment, make_device, make_device_deployment, make_group


def test_it_deploys_to_groups_and_devices(alice: Person, bundle: Bundle) -> None:
    field = make_group("field")
    members = [make_device(group=field) for _ in range(2)]
    single, _other = make_device(), make_device()
    answer = alice.post(
        "/deployments",
        {
            "bundle": "vad@1.0.0",
            "groups": ["field"],
            "devices": [str(single.pk), str(members[0].pk)],
            "deadline_seconds": 600,
            "note": "the first of all",
        },
    )
    assert answer.status_code == 201, answer.content
    body = answer.json()
    deployment = Deployment.objects.get(pk=body["id"])
    assert body["bundle"] == "vad@1.0.0"
    assert body["state"] == "running"
    assert body["counts"]["waiting"] == sum(body["counts"].values()) == 3
    assert body["skipped"] == {"not_accepted": 0, "wrong_device_type": 0}
    assert (body["note"], body["deadline_seconds"]) == ("the first of all", 600)
    assert deployment.created_by is not None
    assert deployment.created_by.get_username() == "alice"
    ways = DeviceDeployment.objects.filter(deployment=deployment)
    assert {way.device_id for way in ways} == {*(member.pk for member in members), single.pk}
    assert {(way.state, way.product, way.attempt) for way in ways} == {("waiting", "vad", 1)}
    phase = Phase.objects.get(deployment=deployment)
    assert (phase.number, phase.state, phase.device_count) == (1, "open", 3)
    event = Event.objects.get(kind="deployment.started")
    assert (event.actor, event.bundle_id, event.deployment_id) == ("operator:alice", bundle.pk, deployment.pk)


def test_it_leaves_out_who_cannot_take_it(alice: Person) -> None:
    make_bundle("vad@1.0.0", device_types=["edge", "cam"])
    make_device(device_type="edge")
    make_device(device_type="arm")
    make_device(state="pending")
    make_device(state="decommissioned")
    gone = make_device(state="decommissioned", group=make_group("elsewhere"))
    body = {"bundle": "vad@1.0.0", "groups": ["lab"], "devices": [str(gone.pk)]}
    answer = alice.post("/deployments", body).json()
    assert answer["counts"]["waiting"] == 1
    # Of the group, the decommissioned one is not worth a word; the one that was named is.
    assert answer["skipped"] == {"not_accepted": 2, "wrong_device_type": 1}


def test_a_deployment_for_nobody_is_refused(alice: Person) -> None:
    make_bundle("vad@1.0.0", device_types=["cam"])
    make_device(device_type="edge")
    answer = alice.post("/deployments", {"bundle": "vad@1.0.0", "groups": ["lab"]})
    assert answer.status_code == 409
    error = answer.json()["error"]
    assert (error["code"], error["skipped"]) == ("no_devices", {"not_accepted": 0, "wrong_device_type": 1})
    assert "1 of a type that the bundle is not for" in error["message"]
    assert not Deployment.objects.exists()


def test_nobody_is_explained(alice: Person) -> None:
    make_bundle("vad@1.0.0")
    make_group("empty")
    make_device(state="pending")
    for group, why in (("empty", "the chosen groups are empty"), ("lab", "1 not accepted (approve those that wait)")):
        answer = alice.post("/deployments", {"bundle": "vad@1.0.0", "groups": [group]})
        assert answer.json()["error"]["message"] == f"No device is left for vad@1.0.0: {why}."
    unknown = alice.post("/deployments", {"bundle": "vad@1.0.0", "groups": ["lab", "nowhere"]}).json()["error"]
    assert unknown["message"] == "There are no groups with these names: nowhere."


@pytest.mark.parametrize("state", ["draft", "verifying", "withdrawn"])
def test_only_ready_bundles_are_deployed(alice: Person, state: str) -> None:
    make_bundle("vad@1.0.0", state=state)
    make_device()
    answer = alice.post("/deployments", {"bundle": "vad@1.0.0", "groups": ["lab"]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "bundle_not_ready")


def test_unknown_ones_are_named(alice: Person, bundle: Bundle) -> None:
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
def test_malformed_ones_are_refused(alice: Person, bundle: Bundle, wrong: dict[str, Any]) -> None:
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


def test_said_twice_it_deploys_twice_in_turn(alice: Person, bundle: Bundle) -> None:
    make_device()
    body = {"bundle": "vad@1.0.0", "groups": ["lab"]}
    first, second = alice.post("/deployments", body).json(), alice.post("/deployments", body).json()
    assert first["id"] != second["id"]


def test_the_list_is_newest_first_and_paged(alice: Person, bundle: Bundle) -> None:
    device = make_device()
    made = [str(make_deployment(bundle, device).pk) for _ in range(3)]
    page = alice.get("/deployments?page_size=2").json()
    assert [one["id"] for one in page["results"]] == [made[2], made[1]]
    following = alice.get(page["next"].partition("/api/v1")[2]).json()
    assert [one["id"] for one in following["results"]] == [made[0]]
    assert following["next"] is None


def test_the_list_is_filtered(alice: Person, bundle: Bundle) -> None:
    device = make_device()
    running = str(make_deployment(make_bundle("asr@2.0.0"), device).pk)
    finished = str(make_device_deployment("succeeded", device=device, bundle=bundle).deployment_id)
    finish()

    def ids(query: str) -> list[str]:
        return [one["id"] for one in alice.get(f"/deployments?{query}").json()["results"]]

    assert ids("state=running") == [running]
    assert ids("state=finished") == [finished]
    assert ids("bundle=vad") == ids("bundle=vad@1.0.0") == [finished]
    assert ids("bundle=vad@2.0.0") == []
    assert alice.get("/deployments?state=lost").status_code == 400
    assert alice.get("/deployments?bundle=%00").status_code == 400


def test_the_list_takes_as_many_queries_for_more(
    alice: Person, bundle: Bundle, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(3):
        make_device_deployment("succeeded", device=make_device())
    finish()
    for _ in range(3):
        make_device_deployment("offered", device=make_device())
    alice.get("/deployments")
    with django_assert_num_queries(3):  # the token, the page, the counts of what runs
        answer = alice.get("/deployments").json()
    counts = [(one["counts"]["offered"], one["counts"]["succeeded"]) for one in answer["results"]]
    assert counts == [(1, 0)] * 3 + [(0, 1)] * 3


@pytest.mark.parametrize("devices", [1, 40])
def test_starting_takes_as_many_queries_for_more_devices(
    alice: Person, bundle: Bundle, devices: int, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(devices):
        make_device()
    alice.get("/deployments")
    with django_assert_num_queries(13):
        answer = alice.post("/deployments", {"bundle": "vad@1.0.0", "groups": ["lab"]})
    assert answer.json()["counts"]["waiting"] == devices


@pytest.mark.django_db(transaction=True)
def test_two_operators_at_once_make_two_deployments(bundle: Bundle) -> None:
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
