"""What operators do to deployments besides phases: change them, retry failures, start them again."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from bundles.models import Bundle
from deployments.models import Deployment, DeviceDeployment
from deployments.offers import offer
from deployments.phases.definition import PhaseDefinition
from deployments.planning import plan
from deployments.rollback import roll_back
from foundation.events.models import Event
from tests.devices.operators import Person
from tests.factories import complete, make_deployment, make_device

pytestmark = pytest.mark.django_db


@pytest.fixture
def failed(bundle: Bundle) -> Deployment:
    """A finished deployment: one device succeeded, one failed late, and two failed for different reasons."""
    phases = [PhaseDefinition(error_threshold_percent=100, success_threshold_percent=0, soak_seconds=60)]
    deployment = make_deployment(bundle, *(make_device() for _ in range(4)), phases=phases, max_in_flight=9)
    offer()
    rows = DeviceDeployment.objects.filter(deployment=deployment)
    good, late, full, bad = rows.values_list("pk", flat=True)
    rows.filter(pk__in=[good, late]).transition_to("succeeded")
    rows.filter(pk=late).update(late_at=timezone.now(), late_reason_code="unhealthy")
    rows.filter(pk=full).transition_to("failed", reason_code="no_space")
    rows.filter(pk=bad).transition_to("rejected", reason_code="bad_blob")
    Deployment.objects.filter(pk=deployment.pk).transition_to("finished")
    deployment.refresh_from_db()
    return deployment


def path(deployment: Deployment, action: str = "") -> str:
    return f"/deployments/{deployment.pk}" + (f"/{action}" if action else "")


@pytest.mark.parametrize(
    ("body", "reasons"),
    [
        ({}, {"no_space", "bad_blob", "unhealthy"}),
        ({"reason_codes": ["no_space"]}, {"no_space"}),
        ({"reason_codes": ["unhealthy"]}, {"unhealthy"}),
    ],
)
def test_failed_devices_are_tried_again(
    alice: Person, failed: Deployment, body: dict[str, Any], reasons: set[str]
) -> None:
    response = alice.post(path(failed, "retry"), body)
    assert response.status_code == 201
    assert response.json()["repeats"] == str(failed.pk)
    assert alice.post(path(failed, "retry"), body).json()["id"] == response.json()["id"]
    plan()
    retry = Deployment.objects.get(pk=response.json()["id"])
    devices = DeviceDeployment.objects.filter(deployment=retry).values("device")
    originals = DeviceDeployment.objects.filter(deployment=failed, device__in=devices)
    assert {row.shown_reason for row in originals} == reasons
    assert retry.max_in_flight == 9
    assert retry.phases.get().soak_seconds == 60


def test_nothing_to_retry(alice: Person, failed: Deployment) -> None:
    response = alice.post(path(failed, "retry"), {"reason_codes": ["crash_loop"]})
    assert (response.status_code, response.json()["error"]["code"]) == (409, "nothing_to_retry")


@pytest.mark.parametrize("body", [{"reason_codes": "no_space"}, {"reason_codes": ["NO"]}, {"reason": ["x"]}])
def test_bad_retries(alice: Person, failed: Deployment, body: dict[str, Any]) -> None:
    assert alice.post(path(failed, "retry"), body).status_code == 400


@pytest.mark.parametrize("action", ["retry", "repeat"])
def test_a_withdrawn_bundle_is_not_deployed_again(alice: Person, failed: Deployment, action: str) -> None:
    Bundle.objects.update(state="withdrawn")
    response = alice.post(path(failed, action))
    assert (response.status_code, response.json()["error"]["code"]) == (409, "bundle_not_ready")


@pytest.mark.parametrize("action", ["retry", "repeat"])
def test_a_rollback_is_not_repeated(alice: Person, failed: Deployment, action: str) -> None:
    rollback = roll_back(failed, reason="", actor="operator:alice")
    DeviceDeployment.objects.filter(deployment=failed).update(deployment=rollback)
    response = alice.post(path(rollback, action))
    assert (response.status_code, response.json()["error"]["code"]) == (409, "is_a_rollback")


def test_a_deployment_is_started_again(alice: Person, bundle: Bundle, failed: Deployment) -> None:
    response = alice.post(path(failed, "repeat"))
    assert response.status_code == 201
    assert alice.post(path(failed, "repeat")).json()["id"] == response.json()["id"]
    plan()
    again = Deployment.objects.get(pk=response.json()["id"])
    assert (again.state, again.device_count) == ("running", 4)
    again.cancel("operator:alice")
    DeviceDeployment.objects.filter(deployment=again).transition_to("cancelled")
    complete()
    assert alice.post(path(failed, "repeat")).json()["id"] != response.json()["id"]


def test_times_and_limits_change(alice: Person, bundle: Bundle) -> None:
    deployment = make_deployment(bundle, make_device(), max_in_flight=5)
    expires_at = (timezone.now() + timedelta(days=1)).isoformat()
    body = {"expires_at": expires_at, "max_in_flight": None, "max_bad": 3, "reason": "a slow site"}
    for _ in range(2):  # idempotent
        response = alice.patch(path(deployment), body)
        assert response.status_code == 200
        assert (response.json()["max_in_flight"], response.json()["max_bad"]) == (None, 3)
    event = Event.objects.get(kind="deployment.changed")
    assert (event.data["before"]["max_in_flight"], event.data["after"]["max_in_flight"]) == (5, None)
    assert event.data["reason"] == "a slow site"


def test_a_scheduled_deployment_starts_at_another_time(alice: Person, bundle: Bundle) -> None:
    deployment = make_deployment(bundle, make_device(), start_at=timezone.now() + timedelta(hours=1))
    assert alice.patch(path(deployment), {"start_at": None}).status_code == 200
    deployment.refresh_from_db()
    assert deployment.start_at is None


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"start_at": "2030-01-01T00:00:00Z"}, 409, "wrong_state"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, 400, "bad_times"),
        ({"limit_tag": "site:"}, 400, "bad_limits"),
        ({"max_in_flight": 0}, 400, "invalid"),
        ({"expires_at": "tomorrow"}, 400, "invalid"),
        ({"on_failure": "pause"}, 400, "invalid"),
    ],
)
def test_bad_changes_change_nothing(
    alice: Person, bundle: Bundle, body: dict[str, Any], status: int, code: str
) -> None:
    deployment = make_deployment(bundle, make_device())
    before = Deployment.objects.values().get(pk=deployment.pk)
    response = alice.patch(path(deployment), body)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert Deployment.objects.values().get(pk=deployment.pk) == before


def test_an_ended_deployment_does_not_change(alice: Person, failed: Deployment) -> None:
    response = alice.patch(path(failed), {"max_bad": 1})
    assert (response.status_code, response.json()["error"]["code"]) == (409, "wrong_state")


@pytest.mark.parametrize("action", ["retry", "repeat"])
def test_reading_is_not_enough(victor: Person, failed: Deployment, action: str) -> None:
    assert victor.post(path(failed, action)).status_code == 403
    assert victor.patch(path(failed), {"max_bad": 1}).status_code == 403
