"""POST /devices/{id}/heartbeat: reports, responses and refusals."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from devices.models import Device, HeartbeatSample
from foundation.events.models import Event
from tests.devices.signing import SigningDevice, heartbeat_body
from tests.factories import make_group

BUNDLE = {"version": "1.0.0", "manifest_sha256": "ab" * 32, "healthy": True}


def code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def test_it_stores_the_report(device: SigningDevice) -> None:
    details = {"healthy": False, "restarts": 2, "message": "no camera", "verdict": {"n": 1}}
    response = device.heartbeat(5, status="busy", running_bundles={"vad": BUNDLE | details | {"x": 1}})
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/json"
    assert response.json() == {"state": "accepted", "interval_seconds": 60, "commands": []}
    row = Device.objects.get(pk=device.id)
    assert (row.sequence, row.status, row.agent_version, row.boot_id) == (5, "busy", "1.0.0", "boot-1")
    assert row.metrics == {"cpu_percent": 2.5}
    assert row.running_bundles == {"vad": BUNDLE | details}
    assert row.is_online


def test_the_response_has_the_interval_of_the_group(make_signing: Callable[..., SigningDevice]) -> None:
    device = make_signing(group=make_group("fast", interval_seconds=2))
    assert device.heartbeat().json()["interval_seconds"] == 2


def test_an_idle_heartbeat_is_one_query(device: SigningDevice) -> None:
    device.heartbeat()
    with CaptureQueriesContext(connection) as queries:
        assert device.heartbeat().status_code == 200
    assert len(queries) == 1


def test_optional_fields_may_be_left_out(device: SigningDevice) -> None:
    body = heartbeat_body()
    del body["metrics"], body["acknowledged_commands"]
    assert device.heartbeat(body=body).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_an_unreachable_database_returns_503(device: SigningDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    connection.close()
    monkeypatch.setitem(connection.settings_dict, "PORT", "1")
    response = device.heartbeat()
    assert code(response) == (503, "database_unavailable")
    assert int(response.headers["Retry-After"]) > 0


def test_it_refuses_a_used_sequence(device: SigningDevice) -> None:
    device.heartbeat(7)
    response = device.heartbeat(7, status="busy")
    assert code(response) == (409, "sequence_used")
    assert response.json()["error"]["next_sequence"] == 8
    assert code(device.heartbeat(3)) == (409, "sequence_used")
    assert device.heartbeat(8).status_code == 200
    assert Device.objects.get(pk=device.id).sequence == 8


def test_the_identical_heartbeat_is_a_retry(device: SigningDevice) -> None:
    created = int(time.time())
    path = f"/devices/{device.id}/heartbeat"
    first = device.call("POST", path, heartbeat_body(), sequence=7, created=created)
    seen = Device.objects.get(pk=device.id).last_heartbeat_at
    again = device.call("POST", path, heartbeat_body(), sequence=7, created=created)
    assert (again.status_code, again.json()) == (200, first.json())
    assert Device.objects.get(pk=device.id).last_heartbeat_at == seen


def test_a_replay_of_an_older_heartbeat_is_refused(device: SigningDevice) -> None:
    created = int(time.time())
    path = f"/devices/{device.id}/heartbeat"
    device.call("POST", path, heartbeat_body(), sequence=7, created=created)
    device.heartbeat(8)
    response = device.call("POST", path, heartbeat_body(), sequence=7, created=created)
    assert code(response) == (409, "sequence_used")
    assert response.json()["error"]["next_sequence"] == 9


def test_a_pending_device_learns_its_state(make_signing: Callable[..., SigningDevice]) -> None:
    device = make_signing(state="pending")
    for _ in range(2):
        assert device.heartbeat().json() == {"state": "pending", "interval_seconds": 60, "commands": []}
    row = Device.objects.get(pk=device.id)
    row.approve("operator:alice")
    assert device.heartbeat().json()["state"] == "accepted"


def test_a_decommissioned_device_is_refused(device: SigningDevice, row: Device) -> None:
    device.heartbeat()
    row.decommission("operator:alice")
    assert code(device.heartbeat()) == (403, "decommissioned")
    assert Device.objects.get(pk=device.id).sequence == 1


MALFORMED: list[tuple[str, Any]] = [
    ("agent_version", None),
    ("agent_version", ""),
    ("agent_version", 1),
    ("agent_version", "x" * 65),
    ("boot_id", ""),
    ("boot_id", "x" * 65),
    ("boot_id", ["x"]),
    ("status", ""),
    ("status", "x" * 33),
    ("metrics", []),
    ("metrics", "x"),
    ("metrics", {"x": "y" * 20_000}),
    ("metrics", {"x": 2**53 + 1}),
    ("metrics", {"x": -1e-31}),
    ("running_bundles", None),
    ("running_bundles", []),
    ("running_bundles", {"Bad Name": BUNDLE}),
    ("running_bundles", {"vad": "1.0.0"}),
    ("running_bundles", {"vad": BUNDLE | {"version": 1}}),
    ("running_bundles", {"vad": BUNDLE | {"version": "../1"}}),
    ("running_bundles", {"vad": BUNDLE | {"manifest_sha256": "AB" * 32}}),
    ("running_bundles", {"vad": BUNDLE | {"healthy": 1}}),
    ("running_bundles", {"vad": BUNDLE | {"restarts": -1}}),
    ("running_bundles", {"vad": BUNDLE | {"restarts": 10_001}}),
    ("running_bundles", {"vad": BUNDLE | {"restarts": True}}),
    ("running_bundles", {"vad": BUNDLE | {"message": 1}}),
    ("running_bundles", {"vad": BUNDLE | {"message": "x" * 501}}),
    ("running_bundles", {"vad": BUNDLE | {"verdict": []}}),
    ("running_bundles", {"vad": BUNDLE | {"verdict": {"x": "y" * 5000}}}),
    ("running_bundles", {"vad": BUNDLE | {"verdict": {"x": [1e308]}}}),
    ("running_bundles", {"vad": BUNDLE | {"verdict": {"x": {"y": -(2**53) - 1}}}}),
    ("running_bundles", {f"p{n}": BUNDLE for n in range(65)}),
    ("acknowledged_commands", {}),
    ("acknowledged_commands", ["1"]),
    ("acknowledged_commands", [True]),
    ("acknowledged_commands", [1.5]),
    ("acknowledged_commands", [0]),
    ("acknowledged_commands", [2**63 - 1] * 1001),
]


@pytest.mark.parametrize(("field", "value"), MALFORMED)
def test_it_names_the_invalid_field(device: SigningDevice, field: str, value: Any) -> None:
    response = device.heartbeat(**{field: value})
    assert code(response) == (400, "invalid")
    assert list(response.json()["error"]["fields"]) == [field]
    assert Device.objects.get(pk=device.id).sequence == 0


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b" ", "not_json"),
        (b"[]", "invalid"),
        (b"null", "invalid"),
        (b"{", "not_json"),
        (b"\xff", "not_utf8"),
        (b'{"boot_id": "\\u0000"}', "bad_text"),
        (b'{"boot_id": "\\ud800"}', "bad_text"),
        (b'{"metrics": {"x": 1e999}}', "number_out_of_range"),
        (b'{"x": ' + b"[" * 990 + b"]" * 990 + b"}", "too_deep"),
    ],
)
def test_it_refuses_a_malformed_body(device: SigningDevice, body: bytes, expected: str) -> None:
    assert code(device.heartbeat(body=body)) == (400, expected)


def test_it_refuses_a_body_that_is_too_large(device: SigningDevice) -> None:
    assert code(device.heartbeat(body=b" " * (256 * 1024 + 1))) == (413, "too_large")


@pytest.mark.parametrize("content_type", ["text/plain", "", "application/json; charset=latin-1", "multipart/form-data"])
def test_it_refuses_other_content_types(device: SigningDevice, content_type: str) -> None:
    path = f"/devices/{device.id}/heartbeat"
    response = device.call("POST", path, heartbeat_body(), sequence=1, content_type=content_type)
    assert code(response) == (415, "unsupported_media_type")


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON;charset=UTF-8"])
def test_it_accepts_every_spelling_of_json(device: SigningDevice, content_type: str) -> None:
    path = f"/devices/{device.id}/heartbeat"
    assert device.call("POST", path, heartbeat_body(), sequence=1, content_type=content_type).status_code == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD"])
def test_it_refuses_other_methods(device: SigningDevice, method: str) -> None:
    response = device.call(method, f"/devices/{device.id}/heartbeat")
    assert response.status_code == 405
    assert "POST" in response.headers["Allow"]
    assert method == "HEAD" or code(response) == (405, "method_not_allowed")


def test_samples_are_stored_at_their_interval(device: SigningDevice, settings: Any) -> None:
    settings.HEARTBEAT_SAMPLE_SECONDS = 900
    for _ in range(3):
        device.heartbeat()
    sample = HeartbeatSample.objects.get()
    assert (sample.device_id, sample.status, sample.metrics) == (device.id, "idle", {"cpu_percent": 2.5})
    Device.objects.update(sampled_at=timezone.now() - timedelta(seconds=901))
    device.heartbeat()
    device.heartbeat()
    assert HeartbeatSample.objects.count() == 2


def test_it_stores_when_running_bundles_changed(device: SigningDevice) -> None:
    def changed_at() -> Any:
        return Device.objects.get(pk=device.id).running_changed_at

    device.heartbeat()
    assert changed_at() is None
    device.heartbeat(running_bundles={"vad": BUNDLE})
    first = changed_at()
    assert first is not None
    device.heartbeat(running_bundles={"vad": dict(reversed(BUNDLE.items()))})
    assert changed_at() == first
    device.heartbeat(running_bundles={"vad": BUNDLE | {"manifest_sha256": "b" * 64}})
    assert changed_at() > first


def test_a_reboot_does_not_count_as_a_clone(device: SigningDevice) -> None:
    for boot_id in ("a", "a", "b", "b", "c"):
        device.heartbeat(boot_id=boot_id)
    row = Device.objects.get(pk=device.id)
    assert (row.boot_id, row.previous_boot_id, row.is_cloned) == ("c", "b", False)
    assert not Event.objects.filter(kind="device.cloned").exists()


def test_alternating_boot_ids_are_recorded_as_one_event(device: SigningDevice) -> None:
    for boot_id in ("a", "b", "a", "b", "a", "a", "b"):
        device.heartbeat(boot_id=boot_id)
    assert Device.objects.get(pk=device.id).is_cloned
    event = Event.objects.get(kind="device.cloned")
    assert (event.device_id, event.actor, event.data) == (device.id, "device", {"boot_id": "b"})
