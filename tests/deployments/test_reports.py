"""POST /api/v1/deployments/{id}/result"""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from deployments.models import DeviceDeployment
from deployments.offers import offer
from deployments.reports import Report, accept_report
from deployments.termination import carry_out_cancels
from devices.models import Command, Device
from foundation.events.models import Event
from tests.devices.operators import Person
from tests.devices.signing import SigningDevice
from tests.factories import make_device, make_device_deployment


@pytest.fixture
def device_deployment(device: SigningDevice) -> DeviceDeployment:
    """The device's deployment; it is offered."""
    device_deployment = make_device_deployment(device=Device.objects.get(pk=device.id))
    assert offer() == 1
    device_deployment.refresh_from_db()
    return device_deployment


SendReport = Callable[..., Any]


@pytest.fixture
def send_report(device: SigningDevice, device_deployment: DeviceDeployment) -> SendReport:
    def report(number: int, state: str, **fields: Any) -> Any:
        body = {"attempt": 1, "report": number, "state": state, **fields}
        return device.call("POST", f"/deployments/{device_deployment.deployment_id}/result", body)

    return report


def end(device_deployment: DeviceDeployment, state: str) -> None:
    """Move a device deployment, as the scheduler does."""
    DeviceDeployment.objects.filter(pk=device_deployment.pk).transition_to(state)


def test_a_report_is_stored(send_report: SendReport, device_deployment: DeviceDeployment) -> None:
    response = send_report(
        1,
        "downloading",
        progress={"bytes_done": 10, "bytes_total": 40},
        timings={"fetch": 0.5},
        message="half a line\n",
    )
    assert (response.status_code, response.json()) == (200, {"state": "downloading"})
    send_report(2, "failed", reason_code="bad_blob", message="a wrong digest", timings={"check": 3})
    device_deployment.refresh_from_db()
    assert (
        device_deployment.state,
        device_deployment.reason_code,
        device_deployment.message,
        device_deployment.report,
    ) == ("failed", "bad_blob", "a wrong digest", 2)
    assert (device_deployment.bytes_done, device_deployment.bytes_total) == (10, 40)
    assert device_deployment.timings == {"fetch": 0.5, "check": 3}
    assert device_deployment.finished_at is not None


def test_skipped_stages_get_the_time_of_the_next(send_report: SendReport, device_deployment: DeviceDeployment) -> None:
    send_report(1, "checking")
    device_deployment.refresh_from_db()
    times = device_deployment.reached_at
    assert sorted(times) == ["accepted", "checking", "downloading", "installing", "offered"]
    assert times["accepted"] == times["downloading"] == times["installing"] == times["checking"] > times["offered"]


def test_a_repeated_report_changes_nothing(send_report: SendReport, device_deployment: DeviceDeployment) -> None:
    send_report(1, "accepted")
    send_report(2, "downloading", progress={"bytes_done": 10, "bytes_total": 40})
    before = DeviceDeployment.objects.values().get(pk=device_deployment.pk)
    response = send_report(2, "downloading", progress={"bytes_done": 11, "bytes_total": 40})
    assert (response.status_code, response.json()) == (200, {"state": "downloading"})
    response = send_report(1, "accepted")
    assert (response.status_code, response.json()) == (200, {"state": "downloading"})
    assert DeviceDeployment.objects.values().get(pk=device_deployment.pk) == before


def test_a_report_never_moves_the_state_backwards(send_report: SendReport, device_deployment: DeviceDeployment) -> None:
    send_report(1, "installing")
    response = send_report(2, "downloading", progress={"bytes_done": 40, "bytes_total": 40})
    assert response.json() == {"state": "installing"}
    device_deployment.refresh_from_db()
    assert (device_deployment.state, device_deployment.report, device_deployment.bytes_done) == ("installing", 2, 40)


@pytest.mark.parametrize("state", ["succeeded", "failed", "rolled_back", "rejected", "cancelled"])
def test_a_final_report_ends_the_device_deployment(
    send_report: SendReport, device_deployment: DeviceDeployment, state: str
) -> None:
    assert send_report(1, state, reason_code="because").json() == {"state": state}
    # Repeated, because the response may have been lost.
    response = send_report(1, state, reason_code="because")
    assert (response.status_code, response.json()) == (200, {"state": state})
    event = Event.objects.get(kind="deployment.device_ended")
    assert (event.device_id, event.deployment_id, event.actor) == (
        device_deployment.device_id,
        device_deployment.deployment_id,
        "device",
    )
    assert event.data == {"state": state, "reason_code": "because", "product": "vad"}


def test_a_final_report_withdraws_open_commands(send_report: SendReport, device_deployment: DeviceDeployment) -> None:
    assert Command.objects.open().filter(device_deployment_id=device_deployment.pk).exists()
    send_report(1, "rejected")
    assert not Command.objects.open().filter(device_deployment_id=device_deployment.pk).exists()


def test_unknown_timings_are_ignored(send_report: SendReport, device_deployment: DeviceDeployment) -> None:
    for number in range(1, 4):
        names = {f"{number}-{name}": 1 for name in range(100)}
        assert send_report(number, "downloading", timings=names | {"fetch": number}).status_code == 200
    device_deployment.refresh_from_db()
    assert device_deployment.timings == {"fetch": 3}


@pytest.mark.parametrize(
    ("message", "stored"),
    [("x" * 5000 + "the last line", "x" * (4096 - 13) + "the last line"), ("a" + "ü" * 2048, "ü" * 2048)],
)
def test_the_end_of_a_long_message_is_kept(
    send_report: SendReport, device_deployment: DeviceDeployment, alice: Person, message: str, stored: str
) -> None:
    assert send_report(1, "failed", message=message).status_code == 200
    (shown,) = alice.get(f"/deployments/{device_deployment.deployment_id}/devices").json()["results"]
    assert shown["message"] == stored


def test_a_stage_does_not_undo_a_cancel_but_a_final_report_does(
    send_report: SendReport, device_deployment: DeviceDeployment
) -> None:
    send_report(1, "downloading")
    end(device_deployment, "cancelling")
    response = send_report(2, "installing", progress={"bytes_done": 3, "bytes_total": 3})
    assert (response.status_code, response.json()) == (200, {"state": "cancelling"})
    assert send_report(3, "succeeded").json() == {"state": "succeeded"}


def test_attempts_are_kept_apart(send_report: SendReport, device_deployment: DeviceDeployment) -> None:
    DeviceDeployment.objects.filter(pk=device_deployment.pk).update(attempt=2)
    response = send_report(7, "succeeded")
    assert response.status_code == 409
    assert (response.json()["error"]["code"], response.json()["error"]["attempt"]) == ("old_attempt", 2)
    response = send_report(7, "succeeded", attempt=3)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "unknown_attempt")
    assert send_report(1, "accepted", attempt=2).status_code == 200


def test_an_unsigned_report_is_refused(client: Client, device_deployment: DeviceDeployment) -> None:
    response = client.post(
        f"/api/v1/deployments/{device_deployment.deployment_id}/result", {}, content_type="application/json"
    )
    assert (response.status_code, response.json()["error"]["code"]) == (401, "not_signed")


@pytest.mark.parametrize(("state", "code"), [("pending", "pending"), ("decommissioned", "decommissioned")])
def test_only_accepted_devices_report(
    send_report: SendReport, device_deployment: DeviceDeployment, state: str, code: str
) -> None:
    Device.objects.filter(pk=device_deployment.device_id).update(state=state)
    response = send_report(1, "accepted")
    assert (response.status_code, response.json()["error"]["code"]) == (403, code)


def test_the_deployment_of_another_device_is_not_found(
    make_signing: Callable[..., SigningDevice], device_deployment: DeviceDeployment, device: SigningDevice
) -> None:
    body = {"attempt": 1, "report": 1, "state": "succeeded"}
    other = make_signing()
    for sender, deployment in (
        (other, device_deployment.deployment_id),
        (device, "00000000-0000-4000-8000-000000000000"),
    ):
        response = sender.call("POST", f"/deployments/{deployment}/result", body)
        assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")
    device_deployment.refresh_from_db()
    assert device_deployment.state == "offered"


@pytest.mark.parametrize("state", ["waiting", "cancelled"])
def test_a_deployment_that_was_not_offered_is_not_found(device: SigningDevice, state: str) -> None:
    device_deployment = make_device_deployment(device=Device.objects.get(pk=device.id))
    if state == "cancelled":
        device_deployment.deployment.cancel("operator:alice")
        carry_out_cancels()
    body = {"attempt": 1, "report": 1, "state": "succeeded"}
    assert device.call("POST", f"/deployments/{device_deployment.deployment_id}/result", body).status_code == 404
    device_deployment.refresh_from_db()
    assert (device_deployment.state, device_deployment.report) == (state, 0)


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
        {"message": {"a": 1}},
        {"progress": {"bytes_done": -1, "bytes_total": 4}},
        {"progress": {"bytes_done": 1}},
        {"progress": {"bytes_done": 2**63, "bytes_total": 4}},
        {"progress": 7},
        {"timings": {"fetch": "long"}},
        {"timings": {"fetch": -1}},
        {"timings": {"fetch": 1e10}},
        {"timings": []},
    ],
)
def test_malformed_reports_are_refused(
    send_report: SendReport, device_deployment: DeviceDeployment, wrong: dict[str, Any]
) -> None:
    body = {"number": 1, "state": "accepted"} | wrong
    response = send_report(body.pop("number"), body.pop("state"), **body)
    assert response.status_code == 400, response.content
    device_deployment.refresh_from_db()
    assert device_deployment.report == 0


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'"x"', b"{", b'{"report": 1, "report": 2}', b"\xff"])
def test_other_bodies_are_refused(device: SigningDevice, device_deployment: DeviceDeployment, body: bytes) -> None:
    response = device.call("POST", f"/deployments/{device_deployment.deployment_id}/result", body)
    assert response.status_code == 400, response.content
    assert set(response.json()) == {"error"}


def test_a_report_costs_few_queries(send_report: SendReport, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    # The device, its rate limit, the row, what ran before; in a savepoint, the update.
    with django_assert_num_queries(7):
        send_report(1, "accepted")
    with django_assert_num_queries(9):  # further: the observation time; commands are withdrawn, an event is written
        send_report(2, "succeeded")


@pytest.mark.django_db(transaction=True)
def test_ten_concurrent_final_reports_end_a_device_deployment_once() -> None:
    device_deployment = make_device_deployment("checking", device=make_device())
    states: list[str] = []

    def report(number: int) -> None:
        try:
            states.append(
                accept_report(
                    device_deployment.device_id,
                    device_deployment.deployment_id,
                    Report(attempt=1, report=5, state="succeeded"),
                )
            )
        finally:
            connection.close()

    threads = [threading.Thread(target=report, args=[number]) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert states == ["succeeded"] * 10
    assert Event.objects.filter(kind="deployment.device_ended").count() == 1
