"""Holding deployments: nothing is offered from then on, and only what no device has heard is taken back."""

import threading
import time
from collections.abc import Callable

import pytest
from django.db import connection, transaction
from django.utils import timezone

from deployments.holding import hold, release
from deployments.models import DeviceDeployment
from deployments.rollout import offer
from devices.models import Command
from foundation.errors import Conflict
from tests.factories import make_bundle, make_deployment, make_device, make_device_deployment

pytestmark = pytest.mark.django_db


def beside(do: Callable[[], object]) -> threading.Thread:
    """Begin something in a session of its own, and return when that waits for a lock."""

    def run() -> None:
        do()
        connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    deadline = time.monotonic() + 10
    with connection.cursor() as cursor:
        while time.monotonic() < deadline and thread.is_alive():
            cursor.execute(
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND database ="
                " (SELECT oid FROM pg_database WHERE datname = current_database())"
                " OR NOT granted AND locktype = 'transactionid'"
            )
            if cursor.fetchone() != (0,):
                return thread
            time.sleep(0.01)
    return thread


def offered() -> DeviceDeployment:
    """A device deployment whose command stands in the queue."""
    deployment = make_deployment(make_bundle("vad@1.0.0"), make_device())
    assert offer() == 1
    return DeviceDeployment.objects.get(deployment=deployment)


def test_what_was_not_heard_waits_again_and_is_offered_after_the_release() -> None:
    way = offered()
    hold("a drill", actor="operator:alice")
    way.refresh_from_db()
    assert (way.state, way.attempt, way.offered_at) == ("waiting", 2, None)
    assert not Command.objects.open().exists()
    assert offer() == 0
    release(actor="operator:alice")
    assert offer() == 1
    with pytest.raises(Conflict):
        release(actor="operator:alice")


def test_what_was_heard_goes_on() -> None:
    way = offered()
    Command.objects.update(acknowledged_at=timezone.now())
    hold("a drill", actor="operator:alice")
    way.refresh_from_db()
    assert (way.state, way.attempt) == ("offered", 1)


@pytest.mark.django_db(transaction=True)
def test_nothing_is_offered_beside_a_hold_that_begins() -> None:
    make_device_deployment(device=make_device())
    counts: list[int] = []
    with transaction.atomic():
        hold("a drill", actor="operator:alice")
        thread = beside(lambda: counts.append(offer()))
    thread.join()
    assert counts == [0]
    assert not Command.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_what_is_heard_while_a_hold_begins_goes_on() -> None:
    way = offered()
    with transaction.atomic():
        Command.objects.update(acknowledged_at=timezone.now())  # as a heartbeat does
        thread = beside(lambda: hold("a drill", actor="operator:alice"))
    thread.join()
    way.refresh_from_db()
    assert (way.state, way.attempt) == ("offered", 1)
    assert Command.objects.get().withdrawn_at is None
