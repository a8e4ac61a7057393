"""The commands for devices, groups, bundles, enrolment tokens and the status, against a fake server."""

import io
import json
from typing import Any

import pytest

from tests.kernex_cli.conftest import Kernex
from tests.kernex_cli.fake_server import FakeServer, error

DEVICE: dict[str, Any] = {
    "id": "6f0c6a5e-9a53-4a6e-9d5c-0d1f3f0f9b7e", "name": "shelf-4", "state": "accepted", "online": True,
    "health": "unhealthy", "group": "lab",
    "device_type": "edge", "last_heartbeat_at": "2026-01-02T03:04:05.678901Z",
    "running_bundles": {"vad": {"version": "1.0.0", "healthy": True}, "asr": {"version": "2", "healthy": False}},
}  # fmt: skip


def page(*rows: object) -> dict[str, Any]:
    return {"next": None, "previous": None, "results": list(rows)}


def test_devices_are_listed(at_fake: Kernex, fake: FakeServer) -> None:
    fake.responses["GET /devices"] = page(DEVICE, {**DEVICE, "online": False, "last_heartbeat_at": None})
    first, second = at_fake(
        "devices", "--state", "accepted", "--online", "--health", "unhealthy", "--group", "lab"
    ).out.splitlines()[1:]
    assert first.split("\t") == [
        "shelf-4", DEVICE["id"], "accepted", "online", "unhealthy", "lab", "edge", "asr@2 (unhealthy), vad@1.0.0",
        "2026-01-02 03:04:05Z",
    ]  # fmt: skip
    assert second.split("\t")[3] == "offline"
    assert "state=accepted&online=true&health=unhealthy&group=lab" in fake.requests[0]
    assert at_fake("devices", "--offline", "--json", "--limit", "1").document["results"] == [DEVICE]
    assert "online=false" in fake.requests[-1]


def export(fake: FakeServer, body: bytes, content_type: str, **headers: str) -> None:
    """Respond to the next request for an export."""
    fake.fail("GET /api/v1/devices/export", (200, body, {"Content-Type": content_type, **headers}))


def test_devices_are_exported_as_json(at_fake: Kernex, fake: FakeServer) -> None:
    lines = json.dumps(DEVICE).encode() + b"\n"
    export(fake, lines * 3, "application/x-ndjson")
    assert at_fake("devices", "name ~ shelf", "--json").document == {"results": [DEVICE] * 3}
    assert "q=name+~+shelf&format=jsonl" in fake.requests[0]
    export(fake, b"", "application/x-ndjson")
    assert at_fake("devices", "--json").document == {"results": []}


def test_devices_are_exported_as_csv(at_fake: Kernex, fake: FakeServer) -> None:
    export(fake, b'id,name\r\n1,"a\r\nb"\r\n2,\xc3\xa9\r\n', "text/csv; charset=utf-8")
    assert at_fake("devices", "--state", "accepted", "--csv").out == 'id,name\n1,"a\nb"\n2,é\n'
    assert "state=accepted&format=csv" in fake.requests[0]


def test_an_export_that_breaks_off_is_an_error(at_fake: Kernex, fake: FakeServer) -> None:
    export(fake, b"id,name\r\n1,a\r\n", "text/csv", **{"Content-Length": "1000", "Connection": "close"})
    outcome = at_fake("devices", "--csv")
    assert outcome.code == 5
    assert "the output is incomplete" in outcome.err
    export(fake, b"<html>", "text/html")
    outcome = at_fake("devices", "--csv")
    assert (outcome.code, outcome.out) == (5, "")


def test_an_empty_export_of_an_unknown_group_is_an_error(at_fake: Kernex, fake: FakeServer) -> None:
    fake.responses["GET /groups"] = page({"name": "lab"})
    for option, body, content_type in [("--csv", b"id\r\n", "text/csv"), ("--json", b"", "application/x-ndjson")]:
        export(fake, body, content_type)
        outcome = at_fake("devices", "--group", "labb", option)
        assert (outcome.code, outcome.out) == (2, "")
        assert "Did you mean" in outcome.err


@pytest.mark.parametrize("option", ["--json", "--limit=5"])
def test_csv_excludes_other_forms(at_fake: Kernex, option: str) -> None:
    assert at_fake("devices", "--csv", option).code == 2


def test_a_list_can_be_limited(at_fake: Kernex, fake: FakeServer) -> None:
    fake.responses["GET /devices"] = {"next": f"{fake.url}/api/v1/devices?cursor=x", "results": [DEVICE] * 3}
    assert len(at_fake("devices", "--limit", "2", "--json").document["results"]) == 2
    assert "page_size=2" in fake.requests[0]
    assert len(fake.requests) == 1


def test_online_and_offline_exclude_each_other(at_fake: Kernex) -> None:
    assert at_fake("devices", "--online", "--offline").code == 2


def test_a_device_is_approved(at_fake: Kernex, fake: FakeServer) -> None:
    fake.responses["GET /devices"] = page(DEVICE)
    fake.responses[f"POST /devices/{DEVICE['id']}/approve"] = DEVICE
    assert at_fake("approve", "shelf-4").out == "shelf-4 is accepted.\n"
    assert at_fake("approve", DEVICE["id"], "--json").document == DEVICE


def test_a_device_is_changed(at_fake: Kernex, fake: FakeServer) -> None:
    changed = {**DEVICE, "group": "canary", "tags": ["north", "lab"]}
    fake.responses[f"PATCH /devices/{DEVICE['id']}"] = changed
    outcome = at_fake("change", DEVICE["id"], "--group", "canary", "--tag", "north", "--tag", "lab")
    assert outcome.out == "shelf-4 is in canary, tagged north, lab.\n"
    fake.responses[f"PATCH /devices/{DEVICE['id']}"] = {**DEVICE, "test": True}
    assert at_fake("change", DEVICE["id"], "--test").out == "shelf-4 is a test device in lab.\n"
    assert json.loads(fake.bodies[-1]) == {"test": True}
    at_fake("change", DEVICE["id"], "--no-test")
    assert json.loads(fake.bodies[-1]) == {"test": False}
    fake.responses[f"PATCH /devices/{DEVICE['id']}"] = changed
    at_fake("change", DEVICE["id"], "--group", "canary", "--tag", "north", "--tag", "lab")
    assert json.loads(fake.bodies[-1]) == {"group": "canary", "tags": ["north", "lab"]}
    assert at_fake("change", DEVICE["id"], "--name", "shelf-5", "--json").document == changed
    nothing = at_fake("change", DEVICE["id"])
    assert (nothing.code, "--group" in nothing.err) == (2, True)


@pytest.mark.parametrize("verb", ["reject", "decommission"])
def test_permanent_decisions_need_a_confirmation(
    at_fake: Kernex, fake: FakeServer, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = f"POST /devices/{DEVICE['id']}/{verb}"
    fake.responses[request] = {**DEVICE, "state": "decommissioned"}
    refused = at_fake(verb, DEVICE["id"])
    assert refused.code == 2
    assert "--yes" in refused.err
    for text in ("", "n\n", "yes please\n"):
        type_on_terminal(monkeypatch, text)
        assert at_fake(verb, DEVICE["id"]).code == 2
    assert fake.requests == []
    type_on_terminal(monkeypatch, "y\n")
    assert at_fake(verb, DEVICE["id"]).out == "shelf-4 is decommissioned.\n"
    assert at_fake(verb, DEVICE["id"], "--yes", "--json").document["state"] == "decommissioned"
    assert len(fake.requests) == 2


def type_on_terminal(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Let the command read `text` from a terminal."""
    terminal = io.StringIO(text)
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", terminal)


def test_a_group_is_created(at_fake: Kernex, fake: FakeServer) -> None:
    fake.responses["POST /groups"] = {"name": "lab", "interval_seconds": 10, "description": "desk"}
    outcome = at_fake("group", "create", "lab", "--every", "10s", "--description", "desk")
    assert outcome.out == "Group lab: devices report every 10 s.\n"
    assert json.loads(fake.bodies[0]) == {"name": "lab", "interval_seconds": 10, "description": "desk"}


def test_groups_are_listed(at_fake: Kernex, fake: FakeServer) -> None:
    dynamic = {"name": "old", "interval_seconds": None, "description": "", "query": "runs.vad < 1.4"}
    fake.responses["GET /groups"] = page({"name": "lab", "interval_seconds": 2, "description": "desk"}, dynamic)
    assert at_fake("groups").out.endswith("lab\t2\tdesk\t\nold\t\t\truns.vad < 1.4\n")


def test_a_dynamic_group_is_created_and_changed(at_fake: Kernex, fake: FakeServer) -> None:
    group = {"name": "old", "interval_seconds": None, "query": "name ~ a"}
    fake.responses |= {"POST /groups": group, "PATCH /groups/old%2F": group}
    assert at_fake("group", "create", "old", "--query", "name ~ a").out == "Group old: devices that match name ~ a\n"
    assert json.loads(fake.bodies[-1]) == {"name": "old", "query": "name ~ a"}
    assert at_fake("group", "change", "old/", "--query", "name ~ a", "--name", "older", "--json").document == group
    assert json.loads(fake.bodies[-1]) == {"name": "older", "query": "name ~ a"}
    assert at_fake("group", "change", "old").code == 2


def test_a_group_is_shown(at_fake: Kernex, fake: FakeServer) -> None:
    group = {"name": "lab", "interval_seconds": 60, "query": "", "description": "", "device_count": 12}
    fake.responses["GET /groups/lab"] = [group, group, group | {"device_count": None}]
    assert at_fake("group", "show", "lab", "--json").document == group
    assert "devices\t12\n" in at_fake("group", "show", "lab").out
    assert "counting takes too long" in at_fake("group", "show", "lab").out


def test_bundles_are_listed(at_fake: Kernex, fake: FakeServer) -> None:
    bundle = {
        "name": "vad", "version": "1", "state": "ready", "size": 2_400_000, "file_count": 3, "created_at": None,
        "state_reason": "",
    }  # fmt: skip
    fake.responses["GET /bundles"] = page(bundle)
    assert at_fake("bundles", "--state", "ready", "--name", "vad").out.endswith("vad@1\tready\t2.3 MiB\t3\t\t\n")
    assert "name=vad&state=ready" in fake.requests[0]
    assert at_fake("bundles", "--json").document["results"] == [bundle]


def test_a_bundle_is_withdrawn(at_fake: Kernex, fake: FakeServer) -> None:
    fake.responses["POST /bundles/vad/1/withdraw"] = {"name": "vad", "version": "1", "state": "withdrawn"}
    assert at_fake("withdraw", "vad@1").code == 2
    assert fake.requests == []
    assert at_fake("withdraw", "vad@1", "--yes").out == "vad@1 is withdrawn.\n"
    assert at_fake("withdraw", "vad@1", "--yes", "--json").document["state"] == "withdrawn"


def test_a_draft_is_discarded(at_fake: Kernex, fake: FakeServer) -> None:
    fake.fail(
        "DELETE /api/v1/bundles/vad/1", (204, None), (204, None), error(409, "illegal_transition", "It is ready.")
    )
    assert at_fake("discard", "vad@1").code == 2
    assert fake.requests == []
    assert at_fake("discard", "vad@1", "--yes").out == "vad@1 was discarded.\n"
    assert at_fake("discard", "vad@1", "--yes", "--json").document == {"discarded": "vad@1"}
    refused = at_fake("discard", "vad@1", "--yes")
    assert (refused.code, "It is ready." in refused.err) == (4, True)


def test_an_enrolment_token_is_alone_on_stdout(at_fake: Kernex, fake: FakeServer) -> None:
    fake.responses["POST /enrolment-tokens"] = {"id": "1", "token": "kxe_secret"}
    outcome = at_fake("token", "create", "--group", "lab", "--uses", "5", "--expires", "2h", "--accept-at-once")
    assert outcome.out == "kxe_secret\n"
    assert "kxe_secret" not in outcome.err
    assert json.loads(fake.bodies[0]) == {
        "name": "lab", "group": "lab", "uses_allowed": 5, "expires_in_seconds": 7200, "accepts_at_once": True,
    }  # fmt: skip


@pytest.mark.parametrize("arguments", [("--uses", "0"), ("--uses", "-1"), ("--expires", "1y"), ()])
def test_wrong_arguments_for_a_token_are_refused(at_fake: Kernex, fake: FakeServer, arguments: tuple[str, ...]) -> None:
    group = ("--group", "lab") if arguments else ()
    assert at_fake("token", "create", *group, *arguments).code == 2
    assert fake.requests == []


def test_the_status_is_shown(at_fake: Kernex, fake: FakeServer) -> None:
    status = {
        "devices": {"online": 3, "offline": 1},
        "deployments": {"running": 0},
        "bundles": {"ready": 2},
        "version": "9",
    }
    fake.responses["GET /status"] = status
    assert "devices online\t3\n" in at_fake("status").out
    assert at_fake("status", "--json").document == status


def test_a_bundle_shows_where_it_runs(at_fake: Kernex, fake: FakeServer) -> None:
    fake.responses["GET /bundles/vad/1.0.0"] = {"name": "vad", "version": "1.0.0", "state": "ready", "size": 2048}
    fake.responses["GET /bundles/vad/1.0.0/running"] = {"healthy": 0, "restarting": 0, "unhealthy": 1, "unknown": 0}
    fake.responses["GET /devices"] = page(DEVICE)
    lines = at_fake("bundle", "vad@1.0.0").out.splitlines()
    assert "state\tready" in lines
    assert "Runs on 1 device: 1 unhealthy" in lines
    assert f"shelf-4\t{DEVICE['id']}\tunhealthy\t2026-01-02 03:04:05Z" in lines
    assert "q=runs.vad+%3D+%221.0.0%22" in fake.requests[-1]
    document = at_fake("bundle", "vad@1.0.0", "--json").document
    assert (document["running"]["unhealthy"], document["devices"]) == (1, [DEVICE])
