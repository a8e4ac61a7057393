"""`devices`, `change`, `approve`, `reject` and `decommission`: who is in the fleet."""

import uuid
from argparse import ArgumentParser
from typing import Any

from kernex_cli.arguments import Commands, Context, add_command, add_yes, at_least_one
from kernex_cli.client import Client
from kernex_cli.errors import BadUsage, Exit
from kernex_cli.screen import when

STATES = ("pending", "accepted", "decommissioned")
EXAMPLES = """\
  kernex devices
  kernex devices --state pending
  kernex devices --group lab --online --json
"""
FOR_GOOD = """\
Its key stays out, also when it registers again: the machine comes back only with a new key, as a new device."""


def add_to(commands: "Commands[ArgumentParser]") -> None:
    parser = add_command(commands, "devices", show_devices, "list devices and what they run", examples=EXAMPLES)
    parser.add_argument("--state", choices=STATES, help="only devices in this state")
    liveness = parser.add_mutually_exclusive_group()
    liveness.add_argument("--online", dest="online", action="store_const", const="true", help="only devices online")
    liveness.add_argument("--offline", dest="online", action="store_const", const="false", help="only devices offline")
    parser.add_argument("--group", help="only devices of this group")
    parser.add_argument("--limit", type=at_least_one, default=0, metavar="N", help="only the first N (default: all)")
    approve = add_command(
        commands, "approve", approve_device, "accept a device that waits for approval",
        examples="  kernex devices --state pending\n  kernex approve 6f0c6a5e-9a53-4a6e-9d5c-0d1f3f0f9b7e\n",
    )  # fmt: skip
    change = add_command(
        commands, "change", change_device, "give a device another name, group or tags",
        text="What is not given stays. Deployments that were made before go on as they are.",
        examples="  kernex change shelf-4 --group canary\n  kernex change shelf-4 --name door-7 --tag north\n",
    )  # fmt: skip
    change.add_argument("--group", help="the group to move it to")
    change.add_argument("--name", help="its new name")
    change.add_argument("--tag", action="append", dest="tags", metavar="TAG", help="its tags from now on (repeatable)")
    reject = add_command(
        commands, "reject", reject_device, "keep out a device that waits for approval, for good",
        text=FOR_GOOD, examples="  kernex devices --state pending\n  kernex reject shelf-4\n",
    )  # fmt: skip
    decommission = add_command(
        commands, "decommission", decommission_device, "put a device out of service, for good",
        text=FOR_GOOD, examples="  kernex decommission shelf-4\n  kernex decommission shelf-4 --yes --json\n",
    )  # fmt: skip
    for parser in (approve, change, reject, decommission):
        parser.add_argument("device", metavar="ID", help="the device's id, or its name if no other has it")
    for parser in (reject, decommission):
        add_yes(parser)


def show_devices(context: Context) -> int:
    arguments = context.arguments
    filters = {name: value for name in ("state", "online", "group") if (value := getattr(arguments, name))}
    devices = context.client.pages("/devices", filters, arguments.limit)
    rows = [
        (
            device["id"], device.get("name"), device["state"], "online" if device.get("online") else "offline",
            device.get("group"), device.get("device_type"), _running(device), when(device.get("last_heartbeat_at")),
        )
        for device in devices
    ]  # fmt: skip
    columns = ("ID", "NAME", "STATE", "LIVENESS", "GROUP", "TYPE", "RUNS", "LAST HEARTBEAT")
    context.screen.listing(devices, columns, rows)
    return Exit.OK


def _running(device: dict[str, Any]) -> str:
    running = device.get("running_bundles") or {}
    labels = []
    for product, release in sorted(running.items()):
        healthy = isinstance(release, dict) and release.get("healthy")
        version = release.get("version") if isinstance(release, dict) else release
        labels.append(f"{product}@{version}{'' if healthy else ' (unhealthy)'}")
    return ", ".join(labels)


def approve_device(context: Context) -> int:
    return _move(context, find_device(context.client, context.arguments.device), "approve")


def change_device(context: Context) -> int:
    arguments = context.arguments
    given = {name: value for name in ("group", "name", "tags") if (value := getattr(arguments, name)) is not None}
    if not given:
        raise BadUsage("Nothing to change: give --group, --name or --tag.")
    device_id = find_device(context.client, arguments.device)
    device = context.client.call("PATCH", f"/devices/{device_id}", json=given)
    tags = f", tagged {', '.join(device['tags'])}" if device["tags"] else ""
    context.screen.result(device, f"{device['name'] or device_id} is in {device['group']}{tags}.")
    return Exit.OK


def reject_device(context: Context) -> int:
    return _move_for_good(context, "reject")


def decommission_device(context: Context) -> int:
    return _move_for_good(context, "decommission")


def _move_for_good(context: Context, verb: str) -> int:
    device = context.arguments.device
    device_id = find_device(context.client, device)
    context.confirm(f"{verb.capitalize()} {device} for good?")
    return _move(context, device_id, verb)


def _move(context: Context, device_id: str, verb: str) -> int:
    device = context.client.post(f"/devices/{device_id}/{verb}")
    context.screen.result(device, f"{device.get('name') or device_id} is {device['state']}.")
    return Exit.OK


def find_device(client: Client, text: str) -> str:
    """The id of the device that `text` names: an id itself, or a name that only one device has. Raises `BadUsage`."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        pass
    named = [device for device in client.pages("/devices", {"q": text}) if device.get("name") == text]
    if len(named) != 1:
        found = "No device has" if not named else f"{len(named)} devices have"
        raise BadUsage(f"{found} the name {text!r}: give the id that `kernex devices` shows.")
    return str(named[0]["id"])
