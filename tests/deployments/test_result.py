"""POST /api/v1/deployments/{id}/result"""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from deployments.models import DeviceDeployment
from deployments.reports import Report, take
from deployments.rollout import offer
from devices.models import Command, Device
from foundation.events.models import Event
from tests.devices.signing import SigningDevice
from tests.factories import make_device, make_device_deployment


@pytest.fixture
def way(device: SigningDevice) -> DeviceDeployment:
    """The device's deployment, offered."""
    way = make_device_deployment(device=Device.objects.get(pk=device.id))
    assert offer() == 1
    way.refresh_from_db()
    return way


Say = Callable[..., Any]


@pytest.fixture
def say(device: SigningDevice, way: DeviceDeployment) -> Say:
    def report(number: int, state: str, **members: Any) -> Any:
        body = {"attempt": 1, "report": number, "state": state, **members}
        return device.call("POST", f"/deployments/{way.deployment_id}/result", body)

    return report


def bring(way: DeviceDeployment, state: str) -> None:
    """Have the server end it."""
    DeviceDeployment.objects.filter(pk=way.pk).move_to(state)


def test_it_keeps_what_the_device_says(say: Say, way: DeviceDeployment) -> None:
    answer = say(
        1,
        "downloading",
        progress={"bytes_done": 10, "bytes_total": 40},
        timings={"accept": 0.5},
        message="half a line\n",
    )
    assert (answer.status_code, answer.json()) == (200, {"state": "downloading"})
    say(2, "failed", reason_code="no_space", message="no space left", timings={"download": 3})
    way.refresh_from_db()
    assert (way.state, way.reason_code, way.message, way.report) == ("failed", "no_space", "no space left", 2)
    assert (way.bytes_done, way.bytes_total) == (10, 40)
    assert way.timings == {"accept": 0.5, "download": 3}
    assert way.finished_at is not None


def test_skipped_steps_are_filled_in(say: Say, way: DeviceDeployment) -> None:
    say(1, "checking")
    way.refresh_from_db()
    times = way.reached_at
    assert sorted(times) == ["accepted", "checking", "downloading", "installing", "offered"]
    assert times["accepted"] == times["downloading"] == times["installing"] == times["checking"] > times["offered"]


def test_the_same_report_twice_changes_nothing(say: Say, way: DeviceDeployment) -> None:
    say(1, "accepted")
    say(2, "downloading", progress={"bytes_done": 10, "bytes_total": 40})
    before = DeviceDeployment.objects.values().get(pk=way.pk)
    answer = say(2, "downloading", progress={"bytes_done": 11, "bytes_total": 40})
    assert (answer.status_code, answer.json()) == (200, {"state": "downloading"})
    answer = say(1, "accepted")
    assert (answer.status_code, answer.json()) == (200, {"state": "downloading"})
    assert DeviceDeployment.objects.values().get(pk=way.pk) == before


def test_it_never_moves_backwards(say: Say, way: DeviceDeployment) -> None:
    say(1, "installing")
    answer = say(2, "downloading", progress={"bytes_done": 40, "bytes_total": 40})
    assert answer.json() == {"state": "installing"}
    way.refresh_from_db()
    assert (way.state, way.report, way.bytes_done) == ("installing", 2, 40)


@pytest.mark.parametrize("state", ["succeeded", "failed", "rolled_back", "rejected", "cancelled"])
def test_a_last_word_ends_it(say: Say, way: DeviceDeployment, state: str) -> None:
    assert say(1, state, reason_code="because").json() == {"state": state}
    # Said again, since the answer may have been lost.
    answer = say(1, state, reason_code="because")
    assert (answer.status_code, answer.json()) == (200, {"state": state})
    event = Event.objects.get(kind="deployment.device_ended")
    assert (event.device_id, event.deployment_id, event.actor) == (way.device_id, way.deployment_id, "device")
    assert event.data == {"state": state, "reason_code": "because", "product": "vad"}


def test_the_end_takes_open_commands_back(say: Say, way: DeviceDeployment) -> None:
    assert Command.objects.open().filter(device_deployment_id=way.pk).exists()
    say(1, "rejected")
    assert not Command.objects.open().filter(device_deployment_id=way.pk).exists()


@pytest.mark.parametrize("ended", ["timed_out", "cancelled", "succeeded"])
def test_what_comes_after_the_end_is_refused_and_noted(say: Say, way: DeviceDeployment, ended: str) -> None:
    say(1, "installing")
    bring(way, ended)
    for number in (2, 3):
        answer = say(number, "rolled_back", reason_code="unhealthy")
        assert answer.status_code == 409
        assert (answer.json()["error"]["code"], answer.json()["error"]["state"]) == ("ended", ended)
    way.refresh_from_db()
    assert (way.state, way.late_state, way.report) == (ended, "rolled_back", 1)
    event = Event.objects.get(kind="deployment.late_report")
    assert event.data == {"state": ended, "reported": "rolled_back", "reason_code": "unhealthy"}


def test_a_report_of_before_the_end_is_answered_as_before(say: Say, way: DeviceDeployment) -> None:
    say(1, "accepted")
    say(2, "installing")
    bring(way, "timed_out")
    answer = say(2, "installing")
    assert (answer.status_code, answer.json()) == (200, {"state": "timed_out"})
    assert say(1, "accepted").status_code == 409
    assert not Event.objects.filter(kind="deployment.late_report").exists()


def test_a_cancel_outlasts_steps_but_not_the_last_word(say: Say, way: DeviceDeployment) -> None:
    say(1, "downloading")
    bring(way, "cancelling")
    answer = say(2, "installing", progress={"bytes_done": 3, "bytes_total": 3})
    assert (answer.status_code, answer.json()) == (200, {"state": "cancelling"})
    assert say(3, "succeeded").json() == {"state": "succeeded"}


def test_attempts_are_kept_apart(say: Say, way: DeviceDeployment) -> None:
    DeviceDeployment.objects.filter(pk=way.pk).update(attempt=2)
    answer = say(7, "succeeded")
    assert answer.status_code == 409
    assert (answer.json()["error"]["code"], answer.json()["error"]["attempt"]) == ("old_attempt", 2)
    answer = say(7, "succeeded", attempt=3)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "unknown_attempt")
    assert say(1, "accepted", attempt=2).status_code == 200


def test_an_unsigned_report_is_refused(client: Client, way: DeviceDeployment) -> None:
    answer = client.post(f"/api/v1/deployments/{way.deployment_id}/result", {}, content_type="application/json")
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "not_signed")


@pytest.mark.parametrize(("state", "code"), [("pending", "pending"), ("decommissioned", "decommissioned")])
def test_only_accepted_devices_report(say: Say, way: DeviceDeployment, state: str, code: str) -> None:
    Device.objects.filter(pk=way.device_id).update(state=state)
    answer = say(1, "accepted")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, code)


def test_anothers_deployment_does_not_exist(
    make_signing: Callable[..., SigningDevice], way: DeviceDeployment, device: SigningDevice
) -> None:
    body = {"attempt": 1, "report": 1, "state": "succeeded"}
    other = make_signing()
    for sender, deployment in ((other, way.deployment_id), (device, "00000000-0000-4000-8000-000000000000")):
        answer = sender.call("POST", f"/deployments/{deployment}/result", body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    way.refresh_from_db()
    assert way.state == "offered"


@pytest.mark.parametrize("state", ["waiting", "cancelled"])
def test_what_the_device_was_never_told_does_not_exist(device: SigningDevice, state: str) -> None:
    way = make_device_deployment(device=Device.objects.get(pk=device.id))
    if state == "cancelled":
        way.deployment.cancel("operator:alice")
    body = {"attempt": 1, "report": 1, "state": "succeeded"}
    assert device.call("POST", f"/deployments/{way.deployment_id}/result", body).status_code == 404
    way.refresh_from_db()
    assert (way.state, way.report) == (state, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempt": 0},
        {"attempt": 99999},
        {"report": 0},
        {"report": 2**31},
        {"report": True},
        {"report": None},
        {"report": 1.5},
        {"state": "offered"},
        {"state": "timed_out"},
        {"state": "cancelling"},
        {"state": 3},
        {"reason_code": "Not A Word"},
        {"reason_code": "x" * 65},
        {"message": "ü" * 2049},
        {"message": {"a": 1}},
        {"progress": {"bytes_done": -1, "bytes_total": 4}},
        {"progress": {"bytes_done": 1}},
        {"progress": {"bytes_done": 2**63, "bytes_total": 4}},
        {"progress": 7},
        {"timings": {"download": "long"}},
        {"timings": {"download": -1}},
        {"timings": {"x" * 33: 1}},
        {"timings": {str(number): 1 for number in range(33)}},
        {"timings": []},
    ],
)
def test_malformed_reports_are_refused(say: Say, way: DeviceDeployment, wrong: dict[str, Any]) -> None:
    body = {"number": 1, "state": "accepted"} | wrong
    answer = say(body.pop("number"), body.pop("state"), **body)
    assert answer.status_code == 400, answer.content
    way.refresh_from_db()
    assert way.report == 0


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'"x"', b"{", b'{"report": 1, "report": 2}', b"\xff"])
def test_other_bodies_are_refused(device: SigningDevice, way: DeviceDeployment, body: bytes) -> None:
    answer = device.call("POST", f"/deployments/{way.deployment_id}/result", body)
    assert answer.status_code == 400, answer.content
    assert set(answer.json()) == {"error"}


def test_it_takes_few_queries(say: Say, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    # The device, the row, the update; a step writes nothing else.
    with django_assert_num_queries(5):  # with the savepoint and its release
        say(1, "accepted")
    with django_assert_num_queries(7):  # further: commands are withdrawn, an event is written
        say(2, "succeeded")


@pytest.mark.django_db(transaction=True)
def test_ten_at_once_end_it_once() -> None:
    way = make_device_deployment("checking", device=make_device())
    answers: list[str] = []

    def report(number: int) -> None:
        try:
            answers.append(take(way.device_id, way.deployment_id, Report(attempt=1, report=5, state="succeeded")))
        finally:
            connection.close()

    threads = [threading.Thread(target=report, args=[number]) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["succeeded"] * 10
    assert Event.objects.filter(kind="deployment.device_ended").count() == 1
