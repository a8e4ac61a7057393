"""The queue of commands, and how heartbeats deliver it."""

import time
from collections.abc import Callable
from functools import partial
from uuid import uuid4

from devices.models import Command, Device
from tests.devices.payloads import cancel_payload, deploy_payload, logs_payload
from tests.devices.signing import SigningDevice, heartbeat_body


def test_commands_are_offered_in_order_until_acknowledged(device: SigningDevice, row: Device) -> None:
    first = Command.objects.queue(row.id, deploy_payload())
    second = Command.objects.queue(row.id, cancel_payload())
    assert first is not None
    assert second is not None
    expected = [
        {"id": first.id, "kind": "deploy", "payload": deploy_payload().as_json()},
        {"id": second.id, "kind": "cancel", "payload": cancel_payload().as_json()},
    ]
    assert device.heartbeat().json()["commands"] == expected
    assert device.heartbeat().json()["commands"] == expected
    assert device.heartbeat(acknowledged_commands=[first.id]).json()["commands"] == expected[1:]
    assert device.heartbeat(acknowledged_commands=[first.id, second.id]).json()["commands"] == []
    assert device.heartbeat().json()["commands"] == []


def test_a_repeated_acknowledgement_keeps_the_first_time(device: SigningDevice, row: Device) -> None:
    command = Command.objects.queue(row.id, deploy_payload())
    assert command is not None
    device.heartbeat(acknowledged_commands=[command.id])
    acknowledged_at = Command.objects.get().acknowledged_at
    assert acknowledged_at is not None
    device.heartbeat(acknowledged_commands=[command.id])
    assert Command.objects.get().acknowledged_at == acknowledged_at


def test_another_device_neither_sees_nor_acknowledges_a_command(
    device: SigningDevice, row: Device, make_signing: Callable[..., SigningDevice]
) -> None:
    command = Command.objects.queue(row.id, deploy_payload())
    assert command is not None
    other = make_signing()
    assert other.heartbeat(acknowledged_commands=[command.id]).json()["commands"] == []
    assert Command.objects.get().acknowledged_at is None
    assert [offered["id"] for offered in device.heartbeat().json()["commands"]] == [command.id]


def test_a_retried_heartbeat_is_offered_the_open_commands(device: SigningDevice, row: Device) -> None:
    created = int(time.time())
    path = f"/devices/{device.id}/heartbeat"
    device.call("POST", path, heartbeat_body(), sequence=1, created=created)
    command = Command.objects.queue(row.id, deploy_payload())
    assert command is not None
    again = device.call("POST", path, heartbeat_body(), sequence=1, created=created)
    assert [offered["id"] for offered in again.json()["commands"]] == [command.id]


def test_a_command_is_queued_once_per_attempt_and_kind(row: Device) -> None:
    queue = partial(Command.objects.queue, row.id, device_deployment_id=uuid4())
    assert queue(deploy_payload(), attempt=1) is not None
    assert queue(deploy_payload(), attempt=1) is None
    assert queue(cancel_payload(), attempt=1) is not None
    assert queue(deploy_payload(), attempt=2) is not None
    assert Command.objects.count() == 3


def test_commands_without_a_deployment_are_not_deduplicated(row: Device) -> None:
    assert Command.objects.queue(row.id, logs_payload()) is not None
    assert Command.objects.queue(row.id, logs_payload()) is not None


def test_many_commands_are_queued_in_one_statement(
    row: Device, django_assert_num_queries: Callable[..., object]
) -> None:
    ids = [uuid4() for _ in range(500)]
    commands = [
        Command.build(row.id, deploy_payload(number), device_deployment_id=device_deployment_id, attempt=1)
        for number, device_deployment_id in enumerate(ids)
    ]
    with django_assert_num_queries(1):  # type: ignore[attr-defined]
        queued = Command.objects.queue_many(commands)
    assert [command.payload["attempt"] for command in queued] == list(range(500))
    assert sorted(command.id for command in queued) == [command.id for command in queued]
    assert Command.objects.queue_many(commands) == []
    assert Command.objects.queue_many([]) == []


def test_a_withdrawn_command_is_not_offered(device: SigningDevice, row: Device) -> None:
    device_deployment_id = uuid4()
    Command.objects.queue(row.id, deploy_payload(), device_deployment_id=device_deployment_id, attempt=1)
    assert Command.objects.for_device_deployments([device_deployment_id]).withdraw() == 1
    assert device.heartbeat().json()["commands"] == []
    assert Command.objects.for_device_deployments([device_deployment_id]).withdraw() == 0


def test_an_acknowledged_command_cannot_be_withdrawn(device: SigningDevice, row: Device) -> None:
    device_deployment_id = uuid4()
    command = Command.objects.queue(row.id, deploy_payload(), device_deployment_id=device_deployment_id, attempt=1)
    assert command is not None
    device.heartbeat(acknowledged_commands=[command.id])
    assert Command.objects.for_device_deployments([device_deployment_id]).withdraw() == 0
    assert Command.objects.get().withdrawn_at is None


def test_a_pending_device_is_offered_nothing(make_signing: Callable[..., SigningDevice]) -> None:
    device = make_signing(state="pending")
    Command.objects.queue(Device.objects.get().id, deploy_payload())
    assert device.heartbeat().json()["commands"] == []


def test_a_response_offers_at_most_a_hundred_commands(device: SigningDevice, row: Device) -> None:
    Command.objects.queue_many(Command.build(row.id, logs_payload()) for _ in range(150))
    offered = [command["id"] for command in device.heartbeat().json()["commands"]]
    assert offered == list(Command.objects.order_by("id").values_list("id", flat=True)[:100])
    assert len(device.heartbeat(acknowledged_commands=offered).json()["commands"]) == 50
