"""The commands for devices, groups and tokens against a real control plane."""

import uuid

from tests.kernex_cli.conftest import Kernex
from tests.live import Live
from tests.machine import Machine


def test_a_device_comes_into_the_fleet(at_live: Kernex, live: Live) -> None:
    group = live.group("cellar", interval_seconds=60)
    assert group in [one["name"] for one in at_live("groups", "--json").document["results"]]
    made = at_live("token", "create", "--group", group, "--expires", "1h")
    assert made.code == 0, made.err
    machine = Machine(live).register(made.out.strip())
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


def test_a_group_is_made_once(at_live: Kernex) -> None:
    name = f"made-{uuid.uuid4().hex[:8]}"
    made = at_live("group", "create", name, "--json").document
    assert (made["name"], made["interval_seconds"]) == (name, 60)
    again = at_live("group", "create", name)
    assert again.code == 4
    assert "group_exists" in again.err
    for words in [("No Label",), (name + "2", "--every", "0")]:
        assert at_live("group", "create", *words).code == 4


def test_devices_are_kept_out(at_live: Kernex, live: Live) -> None:
    token = at_live("token", "create", "--group", live.group(), "--uses", "2").out.strip()
    pending, accepted = Machine(live).register(token), Machine(live).register(token)
    assert at_live("approve", accepted.id).code == 0
    assert at_live("reject", pending.id, "--yes", "--json").document["state"] == "decommissioned"
    assert at_live("decommission", accepted.id, "--yes", "--json").document["state"] == "decommissioned"


def test_a_token_is_used_up(at_live: Kernex, live: Live) -> None:
    made = at_live("token", "create", "--group", live.group(), "--accept-at-once", "--json").document
    machine = Machine(live).register(made["token"])
    assert machine.heartbeat()["state"] == "accepted"
    assert (made["uses_allowed"], made["accepts_at_once"]) == (1, True)


def test_a_group_that_is_not_there_is_named(at_live: Kernex) -> None:
    shown = at_live("token", "create", "--group", "nowhere")
    assert shown.code == 4
    assert "nowhere" in shown.err


def test_a_device_that_is_not_there_cannot_be_approved(at_live: Kernex) -> None:
    assert at_live("approve", "6f0c6a5e-9a53-4a6e-9d5c-0d1f3f0f9b7e").code == 4
    assert at_live("approve", "nobody").code == 2
