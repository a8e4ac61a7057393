"""The commands for devices, groups and tokens against a real control plane."""

import uuid

from tests.kernex_cli.conftest import Kernex
from tests.live import Live
from tests.machine import Machine


def test_a_device_enrols(at_live: Kernex, live: Live) -> None:
    group = live.group("cellar", interval_seconds=60)
    assert group in [listed["name"] for listed in at_live("groups", "--json").document["results"]]
    created = at_live("token", "create", "--group", group, "--expires", "1h")
    assert created.code == 0, created.err
    machine = Machine(live).register(created.out.strip())
    waiting = at_live("devices", "--state", "pending", "--group", group, "--json").document["results"]
    assert [device["id"] for device in waiting] == [machine.id]
    approved = at_live("approve", machine.name, "--json")
    assert approved.document["state"] == "accepted"
    assert at_live("approve", machine.id).code == 0
    assert at_live("devices", "--group", group, "--online", "--json").document["results"] == []
    machine.heartbeat(running_bundles={"vad": {"version": "1.0.0", "manifest_sha256": "a" * 64, "healthy": True}})
    online = at_live("devices", "--group", group, "--online").out.splitlines()
    assert len(online) == 2
    assert "\tvad@1.0.0\t" in online[1]
    assert at_live("devices", "--group", group, "--offline", "--json").document["results"] == []


def test_devices_are_exported(at_live: Kernex, live: Live) -> None:
    machines = [Machine(live).register(live.enrolment_token("exported")) for _ in range(3)]
    ids = sorted(machine.id for machine in machines)
    exported = at_live("devices", "group = exported", "--json").document["results"]
    assert [device["id"] for device in exported] == ids
    header, *rows = at_live("devices", "--group", "exported", "--csv").out.splitlines()
    assert header.startswith("id,name,state,group,")
    assert [row.partition(",")[0] for row in rows] == ids
    refused = at_live("devices", "agnet = 1", "--csv")
    assert (refused.code, refused.out) == (4, "")
    assert "Did you mean `agent`?" in refused.err


def test_short_ids_and_events(at_live: Kernex, live: Live) -> None:
    machine = Machine(live).register(live.enrolment_token("short"))
    changed = at_live("change", machine.id[:8], "--tag", "north", "--json")
    assert changed.code == 0, changed.err
    assert changed.document["id"] == machine.id
    events = at_live("events", "--device", machine.id[:8], "--json").document["results"]
    assert "device.edited" in [event["kind"] for event in events]
    assert {event["device_id"] for event in events} == {machine.id}
    assert at_live("events", "--kind", "device.edited", "--limit", "1").code == 0


def test_logs_are_fetched(at_live: Kernex, live: Live) -> None:
    machine = Machine(live).register(live.enrolment_token("logged"))
    requested = at_live("logs", machine.name, "--no-wait", "--json")
    assert requested.code == 0, requested.err
    assert at_live("logs", machine.name, "--timeout", "0").code == 6
    command = machine.heartbeat()["commands"][0]
    assert command["kind"] == "send_logs"
    path = f"/devices/{machine.id}/log-requests/{command['payload']['request_id']}/batches"
    machine.post(path, {"batch": 1, "source": "agent", "text": "started\n", "is_last": True})
    document = at_live("logs", machine.name, "--no-wait", "--json").document
    assert document["id"] != requested.document["id"]
    text = live.call("GET", f"/log-requests/{requested.document['id']}/text")
    assert "started" in text.text


def test_a_group_is_created_once(at_live: Kernex) -> None:
    name = f"made-{uuid.uuid4().hex[:8]}"
    created = at_live("group", "create", name, "--json").document
    assert (created["name"], created["interval_seconds"]) == (name, 60)
    again = at_live("group", "create", name)
    assert again.code == 4
    assert "group_exists" in again.err
    for arguments in [("No Label",), (name + "2", "--every", "0")]:
        assert at_live("group", "create", *arguments).code == 4


def test_a_dynamic_group_is_used_like_a_static_one(at_live: Kernex, live: Live) -> None:
    machine = Machine(live).register(live.enrolment_token("shelves"))
    assert at_live("change", machine.id, "--test", "--tag", "dynamic").code == 0
    query = "group = shelves and test = true"
    created = at_live("group", "create", "benches", "--query", query, "--json").document
    assert (created["query"], created["interval_seconds"]) == (query, None)
    assert at_live("group", "show", "benches", "--json").document["device_count"] == 1
    [device] = at_live("devices", "--group", "benches", "--json").document["results"]
    assert device["id"] == machine.id
    changed = at_live("group", "change", "benches", "--query", "tag = dynamic or group = benches")
    assert changed.code == 4
    assert "is a dynamic group" in changed.err
    assert at_live("group", "change", "benches", "--query", "test = true and tag = nothing").code == 0
    assert at_live("devices", "--group", "benches", "--csv").out.count("\n") == 1


def test_devices_are_rejected_and_decommissioned(at_live: Kernex, live: Live) -> None:
    token = at_live("token", "create", "--group", live.group(), "--uses", "2").out.strip()
    pending, accepted = Machine(live).register(token), Machine(live).register(token)
    assert at_live("approve", accepted.id).code == 0
    assert at_live("reject", pending.id, "--yes", "--json").document["state"] == "decommissioned"
    assert at_live("decommission", accepted.id, "--yes", "--json").document["state"] == "decommissioned"


def test_a_token_is_used_up(at_live: Kernex, live: Live) -> None:
    created = at_live("token", "create", "--group", live.group(), "--accept-at-once", "--json").document
    machine = Machine(live).register(created["token"])
    assert machine.heartbeat()["state"] == "accepted"
    assert (created["uses_allowed"], created["accepts_at_once"]) == (1, True)


def test_an_unknown_group_is_named(at_live: Kernex) -> None:
    outcome = at_live("token", "create", "--group", "nowhere")
    assert outcome.code == 4
    assert "nowhere" in outcome.err


def test_an_unknown_device_cannot_be_approved(at_live: Kernex) -> None:
    assert at_live("approve", "6f0c6a5e-9a53-4a6e-9d5c-0d1f3f0f9b7e").code == 4
    assert at_live("approve", "nobody").code == 2
