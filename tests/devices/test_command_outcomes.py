"""How commands end: outcomes in heartbeats, the derived state, what operators see, and retention."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from devices.models import Command, Device
from devices.scheduling import delete_old_commands
from tests.devices.operators import Person
from tests.devices.payloads import cancel_payload, deploy_payload
from tests.devices.signing import SigningDevice


@pytest.fixture
def command(row: Device) -> Command:
    queued = Command.objects.queue(row.pk, deploy_payload())
    assert queued is not None
    return queued


def report(device: SigningDevice, command: Command, outcome: str = "done", message: str = "", **fields: Any) -> Any:
    return device.heartbeat(command_outcomes=[{"id": command.pk, "outcome": outcome, "message": message}], **fields)


@pytest.mark.parametrize("outcome", ["done", "failed", "unknown_command"])
def test_an_outcome_is_stored(device: SigningDevice, command: Command, outcome: str) -> None:
    device.heartbeat(acknowledged_commands=[command.pk])
    acknowledged_at = Command.objects.get().acknowledged_at
    assert report(device, command, outcome, "why").status_code == 200
    command.refresh_from_db()
    assert (command.outcome, command.outcome_message, command.state) == (outcome, "why", "ended")
    assert command.acknowledged_at == acknowledged_at
    assert command.ended_at is not None


def test_an_outcome_also_acknowledges(device: SigningDevice, command: Command) -> None:
    assert report(device, command).json()["commands"] == []
    command.refresh_from_db()
    assert command.acknowledged_at is not None


def test_acknowledging_and_ending_in_one_heartbeat(device: SigningDevice, row: Device, command: Command) -> None:
    other = Command.objects.queue(row.pk, cancel_payload())
    assert other is not None
    report(device, command, acknowledged_commands=[command.pk, other.pk])
    states = [each.state for each in Command.objects.order_by("id")]
    assert states == ["ended", "acknowledged"]


def test_the_first_outcome_is_kept(device: SigningDevice, command: Command) -> None:
    outcomes = [{"id": command.pk, "outcome": "failed"}, {"id": command.pk, "outcome": "done"}]
    device.heartbeat(command_outcomes=outcomes)
    report(device, command, "unknown_command")
    command.refresh_from_db()
    assert command.outcome == "failed"


def test_another_device_cannot_end_a_command(
    command: Command, make_signing: Callable[..., SigningDevice], device: SigningDevice
) -> None:
    assert report(make_signing(), command).status_code == 200
    command.refresh_from_db()
    assert (command.outcome, command.state) == ("", "queued")


def test_a_heartbeat_with_outcomes_is_one_query(device: SigningDevice, command: Command) -> None:
    with CaptureQueriesContext(connection) as queries:
        report(device, command, acknowledged_commands=[command.pk])
    assert len(queries) == 1


@pytest.mark.parametrize(
    ("acknowledged", "withdrawn", "ended", "state"),
    [
        (False, False, False, "queued"),
        (True, False, False, "acknowledged"),
        (False, True, False, "withdrawn"),
        (True, True, False, "acknowledged"),
        (True, False, True, "ended"),
        (True, True, True, "ended"),
    ],
)
def test_the_state_is_derived(acknowledged: bool, withdrawn: bool, ended: bool, state: str) -> None:
    now = timezone.now()
    command = Command(
        acknowledged_at=now if acknowledged else None,
        withdrawn_at=now if withdrawn else None,
        ended_at=now if ended else None,
    )
    assert command.state == state


def test_operators_see_the_commands_of_a_device(
    device: SigningDevice, row: Device, command: Command, victor: Person
) -> None:
    second = Command.objects.queue(row.pk, cancel_payload())
    assert second is not None
    report(device, command, "failed", "no such product")
    page = victor.get(f"/devices/{device.id}/commands").json()["results"]
    assert [shown["id"] for shown in page] == [second.pk, command.pk]
    assert [shown["state"] for shown in page] == ["queued", "ended"]
    assert page[1]["outcome"] == "failed"
    assert page[1]["outcome_message"] == "no such product"
    assert set(page[0]) == {
        "id", "kind", "state", "created_at", "acknowledged_at", "withdrawn_at", "ended_at",
        "outcome", "outcome_message",
    }  # fmt: skip


def test_listing_commands_needs_a_token_and_an_existing_device(row: Device, victor: Person, stranger: Person) -> None:
    assert stranger.get(f"/devices/{row.pk}/commands").status_code == 401
    assert victor.get(f"/devices/{uuid4()}/commands").status_code == 404


def test_old_commands_are_deleted(device: SigningDevice, row: Device, settings: Any) -> None:
    settings.COMMAND_KEEP_DAYS = 30
    commands = [Command.objects.queue(row.pk, deploy_payload()) for _ in range(4)]
    ids = [command.pk for command in commands if command is not None]
    device.heartbeat(acknowledged_commands=[ids[0]], command_outcomes=[{"id": ids[1], "outcome": "done"}])
    Command.objects.filter(pk=ids[2]).withdraw()
    assert delete_old_commands() == 0
    Command.objects.update(created_at=timezone.now() - timedelta(days=30, minutes=1))
    assert delete_old_commands() == 3
    assert Command.objects.get().pk == ids[3]
