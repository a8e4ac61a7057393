"""Deployments that make no progress for an hour say why."""

from datetime import timedelta

import pytest
from django.utils import timezone

from bundles.models import Bundle
from deployments.models import Deployment, DeviceDeployment, Phase
from deployments.offers import offer
from deployments.phases.control import pause_deployment
from deployments.stalls import notice_stalls
from foundation.events.models import Event
from tests.devices.operators import Person
from tests.factories import complete, make_deployment, make_device

pytestmark = pytest.mark.django_db
LONG_AGO = timedelta(hours=2)


@pytest.fixture
def stalled(bundle: Bundle) -> Deployment:
    """A deployment whose device was offered the bundle two hours ago, and is offline."""
    deployment = make_deployment(bundle, make_device(last_heartbeat_at=timezone.now() - LONG_AGO))
    offer()
    complete()
    age(deployment)
    return deployment


def age(deployment: Deployment) -> None:
    then = timezone.now() - LONG_AGO
    Deployment.objects.filter(pk=deployment.pk).update(created_at=then)
    DeviceDeployment.objects.filter(deployment=deployment).update(state_changed_at=then)
    Phase.objects.filter(deployment=deployment).update(opened_at=then)


def test_it_says_once_what_its_devices_wait_for(stalled: Deployment, alice: Person) -> None:
    assert (notice_stalls(), notice_stalls()) == (1, 0)
    event = Event.objects.get(kind="deployment.stalled")
    assert event.message.endswith("Its devices wait: the device is offline (1).")
    assert event.data["waiting_for"] == {"offline": 1}
    shown = alice.get(f"/deployments/{stalled.pk}").json()
    assert shown["stalled_at"] is not None
    assert shown["next_step"].endswith("It has made no progress for 1 h; its events say why.")


def test_progress_ends_the_stall(stalled: Deployment) -> None:
    notice_stalls()
    DeviceDeployment.objects.filter(deployment=stalled).transition_to("accepted")
    assert notice_stalls() == 1
    stalled.refresh_from_db()
    assert stalled.stalled_at is None


def test_a_soak_is_progress(stalled: Deployment) -> None:
    Phase.objects.filter(deployment=stalled).update(soak_ends_at=timezone.now() + timedelta(hours=5))
    assert notice_stalls() == 0


def test_a_young_deployment_has_not_stalled(bundle: Bundle) -> None:
    make_deployment(bundle, make_device())
    assert notice_stalls() == 0


def test_a_paused_deployment_has_not_stalled(stalled: Deployment) -> None:
    notice_stalls()
    pause_deployment(stalled, actor="operator:alice")
    assert notice_stalls() == 1
    stalled.refresh_from_db()
    assert stalled.stalled_at is None
    assert notice_stalls() == 0
