"""Collecting the logs of devices: the operators' endpoints, the device's batches, and how requests end."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.utils import timezone

from devices.models import Command, Device, LogBatch, LogRequest
from devices.scheduling import delete_old_logs, end_log_requests
from foundation.events.models import Event
from tests.devices.operators import Person
from tests.devices.signing import SigningDevice

MIB = 1024 * 1024


def code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


@pytest.fixture
def log_request(row: Device) -> LogRequest:
    """An unfinished log request of `device`, for up to 10 KiB."""
    return LogRequest.open_for(row, actor="operator:alice", max_size=10_240).log_request


def send(device: SigningDevice, request_id: Any, batch: int = 1, text: str = "a line\n", **changes: Any) -> Any:
    """Send one batch. `changes` replace fields of the body."""
    body = {"batch": batch, "source": "agent", "text": text, "is_last": False, **changes}
    return device.call("POST", f"/devices/{device.id}/log-requests/{request_id}/batches", body)


def text_of(person: Person, request_id: Any) -> str:
    response = person.get(f"/log-requests/{request_id}/text")
    assert response.status_code == 200
    return b"".join(response).decode()


def test_an_operator_gets_the_logs_of_a_device(device: SigningDevice, alice: Person) -> None:
    opened = alice.post(f"/devices/{device.id}/logs", {})
    assert opened.status_code == 202
    request = opened.json()
    assert request | {"device_id": str(device.id), "state": "requested", "max_size": MIB, "size": 0, "batches": 0,
                      "created_by": "operator:alice", "reason": "", "finished_at": None} == request  # fmt: skip
    command = device.heartbeat().json()["commands"][0]
    assert (command["kind"], command["payload"]) == ("send_logs", {"request_id": request["id"], "max_size": MIB})
    assert send(device, request["id"], 1, "enrolled\n").json() == {"next_batch": 2}
    assert alice.get(f"/log-requests/{request['id']}").json()["state"] == "collecting"
    assert send(device, request["id"], 2, "Tür offen", source="program:vad", is_last=True).json() == {"next_batch": 3}
    request = alice.get(f"/log-requests/{request['id']}").json()
    assert (request["state"], request["batches"], request["size"]) == ("complete", 2, 9 + 10)
    assert request["finished_at"] is not None
    assert text_of(alice, request["id"]) == "==> agent <==\nenrolled\n==> program:vad <==\nTür offen"
    kinds = Event.objects.filter(device_id=device.id).order_by("id").values_list("kind", flat=True)
    assert list(kinds) == ["device.logs_requested", "device.logs_collected"]


def test_a_download_is_a_text_file(device: SigningDevice, victor: Person, log_request: LogRequest) -> None:
    response = victor.get(f"/log-requests/{log_request.pk}/text")
    assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert response.headers["Content-Disposition"].startswith("attachment; ")
    assert response.headers["Cache-Control"] == "no-store"


def test_a_source_begins_on_a_new_line(device: SigningDevice, victor: Person, log_request: LogRequest) -> None:
    for number, (source, text) in enumerate([("agent", "no newline"), ("program:a", ""), ("program:b", "x\n")], 1):
        assert send(device, log_request.pk, number, text, source=source).status_code == 200
    expected = "==> agent <==\nno newline\n==> program:a <==\n==> program:b <==\nx\n"
    assert text_of(victor, log_request.pk) == expected


def test_a_long_text_is_read_in_order(device: SigningDevice, victor: Person, row: Device) -> None:
    log_request = LogRequest.open_for(row, actor="operator:alice").log_request
    for number in range(1, 21):
        send(device, log_request.pk, number, f"{number}\n")
    assert text_of(victor, log_request.pk).split()[3:] == [str(number) for number in range(1, 21)]


def test_an_unfinished_request_is_returned_again(device: SigningDevice, alice: Person) -> None:
    first = alice.post(f"/devices/{device.id}/logs", {"max_size": 2048})
    second = alice.post(f"/devices/{device.id}/logs", {"max_size": 4096})
    assert (first.status_code, second.status_code) == (202, 200)
    assert second.json() == first.json()
    assert (LogRequest.objects.count(), Command.objects.count()) == (1, 1)
    send(device, first.json()["id"], is_last=True)
    assert alice.post(f"/devices/{device.id}/logs").status_code == 202
    listed = alice.get(f"/devices/{device.id}/logs").json()["results"]
    assert [request["state"] for request in listed] == ["requested", "complete"]


@pytest.mark.parametrize("max_size", [1023, 4 * MIB + 1, "many", None, 1.5])
def test_it_refuses_a_size_out_of_range(device: SigningDevice, alice: Person, max_size: Any) -> None:
    response = alice.post(f"/devices/{device.id}/logs", {"max_size": max_size})
    assert code(response) == (400, "invalid")
    assert list(response.json()["error"]["fields"]) == ["max_size"]


@pytest.mark.parametrize("state", ["pending", "decommissioned"])
def test_logs_are_requested_only_from_accepted_devices(
    make_signing: Callable[..., SigningDevice], alice: Person, state: str
) -> None:
    assert code(alice.post(f"/devices/{make_signing(state=state).id}/logs")) == (409, "wrong_state")


def test_operators_request_logs_and_viewers_read_them(
    device: SigningDevice, victor: Person, stranger: Person, log_request: LogRequest
) -> None:
    paths = [f"/devices/{device.id}/logs", f"/log-requests/{log_request.pk}", f"/log-requests/{log_request.pk}/text"]
    for path in paths:
        assert victor.get(path).status_code == 200
        assert stranger.get(path).status_code == 401
    assert victor.post(paths[0]).status_code == 403
    assert stranger.post(paths[0]).status_code == 401


def test_an_unknown_request_is_not_found(alice: Person) -> None:
    for path in (f"/devices/{uuid4()}/logs", f"/log-requests/{uuid4()}", f"/log-requests/{uuid4()}/text"):
        assert code(alice.get(path)) == (404, "not_found")
    assert code(alice.post(f"/devices/{uuid4()}/logs")) == (404, "not_found")


def test_a_repeated_batch_changes_nothing(device: SigningDevice, victor: Person, log_request: LogRequest) -> None:
    assert send(device, log_request.pk, 1, "once\n").json() == {"next_batch": 2}
    assert send(device, log_request.pk, 2, "twice\n", is_last=True).json() == {"next_batch": 3}
    assert send(device, log_request.pk, 1, "other\n").json() == {"next_batch": 2}
    assert send(device, log_request.pk, 2, "other\n").json() == {"next_batch": 3}
    assert text_of(victor, log_request.pk) == "==> agent <==\nonce\ntwice\n"
    assert Event.objects.filter(kind="device.logs_collected").count() == 1


def test_a_gap_names_the_next_batch(device: SigningDevice, log_request: LogRequest) -> None:
    response = send(device, log_request.pk, 2)
    assert code(response) == (409, "batch_gap")
    assert response.json()["error"]["next_batch"] == 1


def test_a_request_that_ended_accepts_no_more_batches(device: SigningDevice, log_request: LogRequest) -> None:
    send(device, log_request.pk, 1, is_last=True)
    assert code(send(device, log_request.pk, 2)) == (409, "log_request_ended")


def test_the_size_is_bounded(device: SigningDevice, log_request: LogRequest) -> None:
    assert send(device, log_request.pk, 1, "ü" * 5120).status_code == 200
    assert code(send(device, log_request.pk, 2, "x")) == (413, "too_large")
    assert send(device, log_request.pk, 2, "", is_last=True).status_code == 200


def test_the_number_of_batches_is_bounded(device: SigningDevice, log_request: LogRequest) -> None:
    LogRequest.objects.update(batches=999, state="collecting")
    assert send(device, log_request.pk, 1000).status_code == 200
    assert code(send(device, log_request.pk, 1001)) == (413, "too_large")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("batch", 0),
        ("batch", "1"),
        ("batch", True),
        ("batch", 2**31),
        ("source", "kernel"),
        ("source", "program:Bad Name"),
        ("source", "failed:vad"),
        ("source", None),
        ("text", "x" * 65_537),
        ("text", "ü" * 32_769),
        ("text", 7),
        ("is_last", "no"),
        ("is_last", None),
    ],
)
def test_it_names_the_invalid_field(device: SigningDevice, log_request: LogRequest, field: str, value: Any) -> None:
    response = send(device, log_request.pk, **{field: value})
    assert code(response) == (400, "invalid")
    assert list(response.json()["error"]["fields"]) == [field]


@pytest.mark.parametrize("source", ["agent", "program:vad", "failed:vad@1.0.0"])
def test_white_space_is_preserved(device: SigningDevice, victor: Person, log_request: LogRequest, source: str) -> None:
    send(device, log_request.pk, 1, "  indented \n\n", source=source)
    assert text_of(victor, log_request.pk) == f"==> {source} <==\n  indented \n\n"


def test_another_device_cannot_send(
    device: SigningDevice, log_request: LogRequest, make_signing: Callable[..., SigningDevice]
) -> None:
    other = make_signing()
    assert code(send(other, log_request.pk)) == (404, "not_found")
    other.id = device.id
    assert code(send(other, log_request.pk)) == (401, "unknown_device")
    assert code(send(device, uuid4())) == (404, "not_found")
    assert not LogBatch.objects.exists()


def test_secrets_are_not_stored(device: SigningDevice, victor: Person, log_request: LogRequest) -> None:
    send(device, log_request.pk, 1, "token kxe_Gm5kq0YxGm5kq0Yx and https://u:hidden@x/ password=hunter2\n")
    text = LogBatch.objects.get().text
    assert "Gm5kq" not in text
    assert "hidden" not in text
    assert "hunter2" not in text


def test_a_request_expires(device: SigningDevice, log_request: LogRequest) -> None:
    assert end_log_requests() == 0
    LogRequest.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert (end_log_requests(), end_log_requests()) == (1, 0)
    log_request.refresh_from_db()
    assert (log_request.state, log_request.reason) == ("expired", "the device did not send them in time")
    assert device.heartbeat().json()["commands"] == []
    assert code(send(device, log_request.pk)) == (409, "log_request_ended")
    assert Event.objects.filter(kind="device.logs_expired", actor="scheduler").count() == 1


@pytest.mark.parametrize(
    ("outcome", "message", "reason"),
    [
        ("failed", "the disk is gone", "the disk is gone"),
        ("failed", "", "the device gave no reason"),
        ("unknown_command", "send_logs", "the device's agent does not know this command: update the agent"),
    ],
)
def test_a_failed_command_fails_its_request(
    device: SigningDevice, log_request: LogRequest, outcome: str, message: str, reason: str
) -> None:
    outcomes = [{"id": log_request.command_id, "outcome": outcome, "message": message}]
    device.heartbeat(command_outcomes=outcomes)
    assert end_log_requests() == 1
    log_request.refresh_from_db()
    assert (log_request.state, log_request.reason) == ("failed", reason)


def test_a_command_that_is_done_ends_nothing(device: SigningDevice, log_request: LogRequest) -> None:
    device.heartbeat(command_outcomes=[{"id": log_request.command_id, "outcome": "done"}])
    assert end_log_requests() == 0


def test_decommissioning_fails_a_request(device: SigningDevice, row: Device, log_request: LogRequest) -> None:
    device.heartbeat(acknowledged_commands=[log_request.command_id])
    row.decommission("operator:alice")
    assert end_log_requests() == 1
    log_request.refresh_from_db()
    assert (log_request.state, log_request.reason) == ("failed", "the device was decommissioned")


def test_old_logs_are_deleted(device: SigningDevice, row: Device, log_request: LogRequest, settings: Any) -> None:
    settings.LOG_KEEP_DAYS = 7
    send(device, log_request.pk, 1, is_last=True)
    assert delete_old_logs() == 0
    LogRequest.objects.update(finished_at=timezone.now() - timedelta(days=7, minutes=1))
    unfinished = LogRequest.open_for(row, actor="operator:alice").log_request
    assert delete_old_logs() == 1
    assert not LogBatch.objects.exists()
    assert LogRequest.objects.get() == unfinished


STATES = ["requested", "collecting", "complete", "failed", "expired"]
ALLOWED = {
    ("requested", "collecting"), ("requested", "complete"), ("requested", "failed"), ("requested", "expired"),
    ("collecting", "complete"), ("collecting", "failed"), ("collecting", "expired"),
}  # fmt: skip


@pytest.mark.parametrize("target", STATES)
@pytest.mark.parametrize("source", STATES)
def test_each_pair_of_states(log_request: LogRequest, source: str, target: str) -> None:
    assert LogRequest.transitions.allows(source, target) == ((source, target) in ALLOWED)
