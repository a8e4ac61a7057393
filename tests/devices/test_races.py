"""Requests and tasks at the same moment, each on its own database connection."""

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client

from devices.models import (
    BulkDecision,
    Command,
    Decision,
    Device,
    EnrolmentToken,
    HeartbeatSample,
    LogBatch,
    LogBatchContent,
    LogRequest,
)
from devices.scheduling import carry_out_bulk_decisions, record_offline, record_online
from foundation.errors import IllegalTransition
from foundation.events.models import Event
from tests.devices.operators import Person
from tests.devices.payloads import deploy_payload
from tests.devices.signing import SigningDevice, heartbeat_body
from tests.factories import make_device, make_enrolment_token, make_group, make_token, make_user

pytestmark = pytest.mark.django_db(transaction=True)

THREADS = 8
ROUNDS = range(5)
T = TypeVar("T")


def at_once(*functions: Callable[[], T]) -> list[T]:
    """Run all functions at the same moment, each in a thread with its own database connection."""
    start = threading.Barrier(len(functions))
    results: dict[int, T] = {}

    def run(number: int, function: Callable[[], T]) -> None:
        try:
            connection.ensure_connection()
            start.wait(30)
            results[number] = function()
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == len(functions)
    return [results[number] for number in range(len(functions))]


def statuses(responses: list[Any]) -> Counter[int]:
    return Counter(response.status_code for response in responses)


def signing(**fields: Any) -> SigningDevice:
    device = SigningDevice(Client())
    device.id = make_device(public_key=device.public_key, **fields).id
    return device


@pytest.mark.parametrize("run", ROUNDS)
def test_one_device_gets_the_last_use_of_a_token(run: int) -> None:
    _, secret = make_enrolment_token(uses_allowed=1)
    newcomers = [SigningDevice(Client()) for _ in range(THREADS)]
    responses = at_once(*[lambda newcomer=newcomer: newcomer.register(secret) for newcomer in newcomers])
    assert statuses(responses) == {201: 1, 403: THREADS - 1}
    assert (Device.objects.count(), EnrolmentToken.objects.get().uses) == (1, 1)


@pytest.mark.parametrize("uses_allowed", [1, 100])
@pytest.mark.parametrize("run", ROUNDS)
def test_the_same_key_registers_once(run: int, uses_allowed: int) -> None:
    _, secret = make_enrolment_token(uses_allowed=uses_allowed)
    key = SigningDevice(Client()).key
    newcomers = [SigningDevice(Client(), key=key) for _ in range(THREADS)]
    responses = at_once(*[lambda newcomer=newcomer: newcomer.register(secret) for newcomer in newcomers])
    assert statuses(responses) == {201: 1, 200: THREADS - 1}
    assert len({response.json()["device_id"] for response in responses}) == 1
    assert EnrolmentToken.objects.get().uses == 1
    assert Event.objects.filter(kind="device.registered").count() == 1


@pytest.mark.parametrize("run", ROUNDS)
def test_the_same_key_uses_one_of_many_tokens(run: int) -> None:
    secrets = [make_enrolment_token()[1] for _ in range(THREADS)]
    key = SigningDevice(Client()).key
    calls = [lambda secret=secret: SigningDevice(Client(), key=key).register(secret) for secret in secrets]
    assert statuses(at_once(*calls)) == {201: 1, 200: THREADS - 1}
    assert sum(EnrolmentToken.objects.values_list("uses", flat=True)) == 1


@pytest.mark.parametrize("run", ROUNDS)
def test_a_sequence_is_used_once(run: int) -> None:
    device = signing()
    calls = [lambda n=n: device.heartbeat(7, metrics={"n": n}) for n in range(THREADS)]
    assert statuses(at_once(*calls)) == {200: 1, 409: THREADS - 1}
    assert HeartbeatSample.objects.count() == 1


@pytest.mark.parametrize("run", ROUNDS)
def test_identical_heartbeats_are_stored_once(run: int) -> None:
    device, created = signing(), int(time.time())
    path = f"/devices/{device.id}/heartbeat"
    calls = [lambda: device.call("POST", path, heartbeat_body(), sequence=7, created=created)] * THREADS
    assert statuses(at_once(*calls)) == {200: THREADS}
    assert HeartbeatSample.objects.count() == 1


def test_many_heartbeats_of_one_device_leave_the_highest_sequence() -> None:
    device = signing()
    calls = [lambda n=n: device.heartbeat(n, metrics={"n": n}) for n in range(1, THREADS + 1)]
    assert set(statuses(at_once(*calls))) <= {200, 409}
    row = Device.objects.get()
    assert (row.sequence, row.metrics) == (THREADS, {"n": THREADS})


@pytest.mark.parametrize("run", ROUNDS)
def test_a_device_is_approved_or_rejected(run: int) -> None:
    device = make_device(state="pending")

    def decide(verb: str) -> bool:
        try:
            getattr(Device.objects.get(pk=device.pk), verb)("operator:alice")
        except IllegalTransition:
            return False
        return True

    assert sum(at_once(lambda: decide("approve"), lambda: decide("reject"))) == 1
    assert Event.objects.filter(device_id=device.pk).count() == 1


def test_deciding_twice_at_once_is_one_decision() -> None:
    device = make_device(state="pending")
    at_once(*[lambda: Device.objects.get(pk=device.pk).approve("operator:alice")] * THREADS)
    assert Event.objects.filter(kind="device.approved").count() == 1


@pytest.mark.parametrize("run", ROUNDS)
def test_racing_servers_queue_a_command_once(run: int) -> None:
    device, device_deployment_id = make_device(), uuid4()
    queue = Command.objects.queue
    queued = at_once(
        *[lambda: queue(device.pk, deploy_payload(), device_deployment_id=device_deployment_id, attempt=1)] * THREADS
    )
    assert sum(command is not None for command in queued) == 1
    assert Command.objects.count() == 1


@pytest.mark.parametrize("run", ROUNDS)
def test_a_command_is_withdrawn_once(run: int) -> None:
    device, device_deployment_id = make_device(), uuid4()
    Command.objects.queue(device.pk, deploy_payload(), device_deployment_id=device_deployment_id, attempt=1)
    withdraw = Command.objects.for_device_deployments([device_deployment_id]).withdraw
    assert sum(at_once(*[withdraw] * THREADS)) == 1


def test_two_schedulers_record_one_event_per_device() -> None:
    silent = [signing() for _ in range(20)]
    for device in silent:
        device.heartbeat()
    Device.objects.update(last_heartbeat_at="2020-01-01T00:00:00Z")
    assert sum(at_once(*[record_offline] * 4)) == 20
    Device.objects.update(offline_noted_at="2020-01-01T00:00:00Z")
    for device in silent:
        device.heartbeat()
    assert sum(at_once(*[record_online] * 4)) == 20
    assert Counter(Event.objects.values_list("kind", flat=True)) == {"device.offline": 20, "device.online": 20}


def test_racing_requests_create_one_group() -> None:
    token = make_token(make_user("alice"), "operator")
    calls = [lambda: Person(Client(), token).post("/groups", {"name": "north"})] * THREADS
    assert statuses(at_once(*calls)) == {201: 1, 409: THREADS - 1}


def test_a_group_is_not_removed_while_a_device_registers() -> None:
    group, token = make_group("north"), make_token(make_user("alice"), "operator")
    _, secret = make_enrolment_token(group=group)
    _, response = at_once(
        lambda: SigningDevice(Client()).register(secret),
        lambda: Person(Client(), token).call("DELETE", "/groups/north"),
    )
    assert response.status_code == (204 if not Device.objects.exists() else 409)


@pytest.mark.parametrize("run", ROUNDS)
def test_racing_operators_open_one_log_request(run: int) -> None:
    device = make_device()
    opened = at_once(*[lambda: LogRequest.open_for(device, actor="operator:alice")] * THREADS)
    assert sum(request.is_new for request in opened) == 1
    assert (LogRequest.objects.count(), Command.objects.count()) == (1, 1)


@pytest.mark.parametrize("run", ROUNDS)
def test_a_batch_that_arrives_twice_at_once_is_stored_once(run: int) -> None:
    log_request = LogRequest.open_for(make_device(), actor="operator:alice").log_request
    batch = LogBatchContent(1, "agent", "a line\n", is_last=True)
    assert at_once(*[lambda: log_request.add_batch(batch)] * THREADS) == [2] * THREADS
    assert LogBatch.objects.count() == 1
    assert Event.objects.filter(kind="device.logs_collected").count() == 1


def test_two_schedulers_share_a_bulk_decision() -> None:
    devices = [make_device() for _ in range(50)]
    bulk_decision = BulkDecision.record(Decision.DECOMMISSION, Device.objects.all(), "operator:alice")
    at_once(*[carry_out_bulk_decisions] * 4)
    bulk_decision.refresh_from_db()
    assert (bulk_decision.state, bulk_decision.changed) == ("finished", len(devices))
    assert Event.objects.filter(kind="device.decommissioned").count() == len(devices)
