"""GET /devices/export: devices as CSV and JSON lines, streamed batch by batch."""

import csv
import io
import json
import socket
from typing import Any

import pytest
from django.core.signals import request_finished
from django.db import close_old_connections, connection
from django.test import RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from devices import export
from devices.models import Device
from devices.serializers import ExportFormat
from tests.devices.operators import Person
from tests.factories import make_device, make_group

pytestmark = pytest.mark.django_db
LARGE_FLEET = 5000


def body(response: Any) -> str:
    assert response.status_code == 200
    return b"".join(response.streaming_content).decode()


def break_off(response: Any) -> None:
    """Close a response as the server does when the client has gone, but keep the test's connection."""
    request_finished.disconnect(close_old_connections)
    response.close()
    request_finished.connect(close_old_connections)


def rows(response: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(body(response), newline="")))


def documents(response: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in body(response).splitlines()]


@pytest.fixture
def large_fleet(db: None) -> None:
    group = make_group("field")
    Device.objects.bulk_create(
        Device(public_key=f"{number:043}", name=f"d{number}", group=group, state="accepted", device_type="edge")
        for number in range(LARGE_FLEET)
    )


def test_json_lines_are_the_documents_of_the_list(alice: Person) -> None:
    for name in ("a", "b"):
        make_device(name=name, last_heartbeat_at=timezone.now(), reported_health="healthy", tags=["x"])
    listed = alice.get("/devices").json()["results"]
    response = alice.get("/devices/export?format=jsonl")
    assert response["Content-Type"] == "application/x-ndjson"
    assert documents(response) == sorted(listed, key=lambda device: str(device["id"]))


def test_csv_has_the_same_columns(victor: Person) -> None:
    device = make_device(
        name="shelf, 4", tags=["a", "b"], last_heartbeat_at=timezone.now(), reported_health="healthy",
        running_bundles={"svc": {"version": "1.4.0"}, "a.b": {"version": "2"}},
    )  # fmt: skip
    response = victor.get("/devices/export?format=csv")
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    assert response["Content-Disposition"].endswith('.csv"')
    [row] = rows(response)
    assert list(row) == list(victor.get("/devices").json()["results"][0])
    assert row["id"] == str(device.pk)
    assert (row["name"], row["tags"], row["online"], row["health"]) == ("shelf, 4", "a b", "true", "healthy")
    assert (row["running_bundles"], row["health_changed_at"]) == ("a.b@2 svc@1.4.0", "")


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_a_cell_is_never_a_formula(alice: Person, start: str) -> None:
    name = f'{start}HYPERLINK("http://evil.example","click")'
    make_device(name=name, agent_version=f"{start}1")
    [row] = rows(alice.get("/devices/export?format=csv"))
    assert (row["name"], row["agent_version"]) == (f"'{name}", f"'{start}1")


def test_filters_and_the_query_select_devices(alice: Person) -> None:
    make_device(name="a")
    make_device(name="b")
    make_device(name="c", state="pending")
    response = alice.get("/devices/export?format=jsonl&state=accepted&q=name+!%3D+b")
    assert [document["name"] for document in documents(response)] == ["a"]
    assert body(alice.get("/devices/export?format=jsonl&group=nowhere")) == ""
    assert rows(alice.get("/devices/export?format=csv&group=nowhere")) == []


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ("", "invalid"),
        ("format=xml", "invalid"),
        ("format=csv&state=ill", "invalid"),
        ("format=csv&q=agnet+%3D+1", "invalid_query"),
        ("format=csv&page_size=5", "unknown_parameter"),
        ("format=csv&format=csv", "repeated_parameter"),
    ],
)
def test_a_wrong_request_is_refused_before_the_first_byte(alice: Person, parameters: str, code: str) -> None:
    response = alice.get(f"/devices/export?{parameters}")
    assert (response.status_code, response.json()["error"]["code"]) == (400, code)


def test_a_stranger_gets_nothing(stranger: Person) -> None:
    assert stranger.get("/devices/export?format=csv").status_code == 401


def test_a_large_fleet_is_read_in_batches(large_fleet: None, alice: Person) -> None:
    response = alice.get("/devices/export?format=csv&q=name+~+d")
    with CaptureQueriesContext(connection) as queries:
        chunks = list(response.streaming_content)
    assert max(chunk.count(b"\n") for chunk in chunks) == export.BATCH + 1
    # The first batch was read before. The last one is empty, because the batch before it was full.
    assert len(queries) == 2 * LARGE_FLEET // export.BATCH
    names = [row["name"] for row in csv.DictReader(io.StringIO(b"".join(chunks).decode()))]
    assert len(names) == len(set(names)) == LARGE_FLEET


def test_a_selective_query_costs_the_same(large_fleet: None, alice: Person) -> None:
    response = alice.get("/devices/export?format=jsonl&q=name+%3D+d4999")
    with CaptureQueriesContext(connection) as queries:
        assert [document["name"] for document in documents(response)] == ["d4999"]
    assert len(queries) == 2 * LARGE_FLEET // export.BATCH


def test_nothing_is_read_after_the_client_has_gone(large_fleet: None) -> None:
    stream = export.DeviceExport(Device.objects.all(), ExportFormat.CSV)
    with CaptureQueriesContext(connection) as queries:
        chunks = iter(stream)
        next(chunks)
        next(chunks)
        stream.close()
        assert list(chunks) == []
    assert len(queries) == 2


def test_a_client_that_receives_nothing_is_disconnected(large_fleet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "STALLED_SECONDS", 0.1)
    server, client = socket.socketpair()
    with server, client:
        request = RequestFactory().get("/")
        request.META["gunicorn.socket"] = server
        response = export.export(request, Device.objects.all(), ExportFormat.CSV)
        with pytest.raises(TimeoutError):
            server.sendall(body(response).encode() * 10)
        break_off(response)


def test_few_exports_run_at_the_same_time(alice: Person) -> None:
    make_device(name="a")
    first = alice.get("/devices/export?format=csv")
    refused = alice.get("/devices/export?format=csv")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "busy")
    assert refused["Retry-After"] == "10"
    break_off(first)
    assert len(rows(alice.get("/devices/export?format=csv"))) == 1
