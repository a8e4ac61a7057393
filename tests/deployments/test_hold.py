"""Holds: nothing is offered, and only offers that no device has acknowledged are withdrawn."""

import threading
import time
from collections.abc import Callable

import pytest
from django.db import connection, transaction
from django.utils import timezone

from deployments.models import DeviceDeployment, Hold
from deployments.offers import offer
from devices.models import Command
from foundation.errors import Conflict
from tests.factories import make_bundle, make_deployment, make_device, make_device_deployment

pytestmark = pytest.mark.django_db


def start_until_it_waits(function: Callable[[], object]) -> threading.Thread:
    """Call a function in a thread with its own database session. Return when it waits for a lock, or has ended."""

    def run() -> None:
        function()
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


def make_offered() -> DeviceDeployment:
    """A device deployment whose command is in the queue."""
    deployment = make_deployment(make_bundle("vad@1.0.0"), make_device())
    assert offer() == 1
    return DeviceDeployment.objects.get(deployment=deployment)


def test_an_unacknowledged_offer_waits_until_the_release() -> None:
    device_deployment = make_offered()
    Hold.begin("a drill", actor="operator:alice")
    device_deployment.refresh_from_db()
    assert (device_deployment.state, device_deployment.attempt) == ("waiting", 2)
    assert (device_deployment.offered_at, device_deployment.deadline_at) == (None, None)
    assert not Command.objects.open().exists()
    assert offer() == 0
    Hold.release(actor="operator:alice")
    assert offer() == 1
    with pytest.raises(Conflict):
        Hold.release(actor="operator:alice")


def test_an_acknowledged_offer_continues() -> None:
    device_deployment = make_offered()
    Command.objects.update(acknowledged_at=timezone.now())
    Hold.begin("a drill", actor="operator:alice")
    device_deployment.refresh_from_db()
    assert (device_deployment.state, device_deployment.attempt) == ("offered", 1)


def test_beginning_a_hold_is_idempotent() -> None:
    first = Hold.begin("a drill", actor="operator:alice")
    second = Hold.begin("another drill", actor="operator:bob")
    assert (second.pk, second.reason) == (first.pk, "a drill")


@pytest.mark.django_db(transaction=True)
def test_nothing_is_offered_while_a_hold_begins() -> None:
    make_device_deployment(device=make_device())
    counts: list[int] = []
    with transaction.atomic():
        Hold.begin("a drill", actor="operator:alice")
        thread = start_until_it_waits(lambda: counts.append(offer()))
    thread.join()
    assert counts == [0]
    assert not Command.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_an_offer_that_is_acknowledged_while_a_hold_begins_continues() -> None:
    device_deployment = make_offered()
    with transaction.atomic():
        Command.objects.update(acknowledged_at=timezone.now())  # as a heartbeat does
        thread = start_until_it_waits(lambda: Hold.begin("a drill", actor="operator:alice"))
    thread.join()
    device_deployment.refresh_from_db()
    assert (device_deployment.state, device_deployment.attempt) == ("offered", 1)
    assert Command.objects.get().withdrawn_at is None
