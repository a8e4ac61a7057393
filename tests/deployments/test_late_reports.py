"""Reports after the end of a device deployment: recorded and shown."""

from collections.abc import Callable
from typing import Any

import pytest

from deployments.models import DeviceDeployment
from deployments.offers import offer
from deployments.reports import MAX_LATE_EVENTS
from devices.models import Device
from foundation.events.models import Event
from tests.devices.operators import Person
from tests.devices.signing import SigningDevice
from tests.factories import make_device_deployment


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
    def report(number: int, state: str, **members: Any) -> Any:
        body = {"attempt": 1, "report": number, "state": state, **members}
        return device.call("POST", f"/deployments/{device_deployment.deployment_id}/result", body)

    return report


def end(device_deployment: DeviceDeployment, state: str) -> None:
    """Move a device deployment, as the scheduler does."""
    DeviceDeployment.objects.filter(pk=device_deployment.pk).transition_to(state)


@pytest.mark.parametrize("ended", ["timed_out", "cancelled", "succeeded"])
def test_a_report_after_the_end_is_recorded(
    send_report: SendReport, device_deployment: DeviceDeployment, ended: str
) -> None:
    send_report(1, "installing")
    end(device_deployment, ended)
    for number in (2, 3):
        answer = send_report(number, "rolled_back", reason_code="unhealthy")
        assert (answer.status_code, answer.json()) == (200, {"state": ended})
    device_deployment.refresh_from_db()
    assert (device_deployment.state, device_deployment.late_state, device_deployment.report) == (
        ended,
        "rolled_back",
        1,
    )
    event = Event.objects.get(kind="deployment.late_report")
    assert event.data == {"state": ended, "reported": "rolled_back", "reason_code": "unhealthy"}


def test_a_late_report_is_shown_by_the_api(
    send_report: SendReport, device_deployment: DeviceDeployment, alice: Person
) -> None:
    end(device_deployment, "timed_out")
    send_report(1, "succeeded")
    (shown,) = alice.get(f"/deployments/{device_deployment.deployment_id}/devices").json()["results"]
    assert (shown["state"], shown["late_state"]) == ("timed_out", "succeeded")


def test_a_device_that_alternates_after_the_end_writes_few_events(
    send_report: SendReport, device_deployment: DeviceDeployment
) -> None:
    end(device_deployment, "timed_out")
    for number in range(1, 31):
        assert send_report(number, ("succeeded", "failed")[number % 2]).status_code == 200
    assert Event.objects.filter(kind="deployment.late_report").count() == MAX_LATE_EVENTS
    device_deployment.refresh_from_db()
    assert device_deployment.late_state == "succeeded"


def test_a_report_from_before_the_end_is_answered_as_before(
    send_report: SendReport, device_deployment: DeviceDeployment
) -> None:
    send_report(1, "accepted")
    send_report(2, "installing")
    end(device_deployment, "timed_out")
    answer = send_report(2, "installing")
    assert (answer.status_code, answer.json()) == (200, {"state": "timed_out"})
    assert send_report(1, "accepted").status_code == 200
    assert not Event.objects.filter(kind="deployment.late_report").exists()
