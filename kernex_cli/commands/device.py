"""`device`: show everything about one device."""

from typing import Any

from kernex_cli.arguments import Commands, Context, Help, add_command
from kernex_cli.commands.devices import DEVICE_HELP
from kernex_cli.deployment_resources import DeviceDeployment
from kernex_cli.errors import Exit
from kernex_cli.lookup import find_device
from kernex_cli.parser import Parser
from kernex_cli.resources import Command, Device
from kernex_cli.tables import Column, ColumnType

SHOWN_ROWS = 5
RELEASES = (Column("RUNS"), Column("HEALTH"), Column("MESSAGE", ColumnType.TEXT), Column("VERDICT", ColumnType.TEXT))
DEPLOYMENTS = (
    Column("BUNDLE"),
    Column("DEPLOYMENT", ColumnType.ID),
    Column("STATE", ColumnType.STATE),
    Column("SINCE", ColumnType.TIME),
    Column("REASON", rank=1),
    Column("MESSAGE", ColumnType.TEXT),
)
COMMANDS = (
    Column("COMMAND"),
    Column("STATE", ColumnType.STATE),
    Column("OUTCOME", ColumnType.STATE),
    Column("CREATED", ColumnType.TIME),
    Column("MESSAGE", ColumnType.TEXT),
)
DEVICE = Help(
    "show everything about one device",
    "Shows the device's state, its running bundles with health and verdict, the facts that it reports, its last\n"
    "deployments, and the last commands that the server sent it, with their outcomes.",
    "  kernex device shelf-4\n  kernex device 6f0c6a5e -v\n  kernex device shelf-4 --json | jq .running_bundles\n",
)


def add_to(commands: "Commands[Parser]") -> None:
    parser = add_command(commands, "device", show_device, DEVICE)
    parser.add_argument("device", metavar="DEVICE", help=DEVICE_HELP)


def show_device(context: Context) -> int:
    client, screen = context.client, context.screen
    device_id = find_device(client, context.arguments.device)
    document = client.get(f"/devices/{device_id}")
    deployments = client.pages(f"/devices/{device_id}/deployments", {}, SHOWN_ROWS)
    commands = client.pages(f"/devices/{device_id}/commands", {}, SHOWN_ROWS)
    if screen.as_json:
        screen.result({**document, "deployments": deployments, "commands": commands})
        return Exit.OK
    _show_facts(context, Device.parse(document))
    _show_deployments(context, deployments)
    _show_commands(context, commands)
    return Exit.OK


def _show_facts(context: Context, device: Device) -> None:
    screen = context.screen
    screen.fields({
        "name": device.name,
        "id": device.id,
        "state": device.state,
        "liveness": device.liveness,
        "health": device.health,
        "last heartbeat": screen.time(device.last_heartbeat_at),
        "status": device.status,
        "group": device.group,
        "tags": device.tags,
        "test device": "yes" if device.test else "",
        "type": device.device_type,
        "agent": device.agent_version,
        "registered": screen.time(device.registered_at),
    })  # fmt: skip
    screen.heading("Running")
    rows = [(release.label, release.health, release.message, release.verdict) for release in device.running]
    screen.table_or(RELEASES, rows, "No bundle is running.")
    if reported := {**device.hardware, **device.attributes}:
        screen.heading("Reported by the device")
        screen.fields(reported)


def _show_deployments(context: Context, documents: list[Any]) -> None:
    context.screen.heading("Last deployments")
    rows = [
        (row.bundle, row.deployment, row.result, row.state_changed_at, row.reason, row.last_line)
        for row in map(DeviceDeployment.parse, documents)
    ]
    context.screen.table_or(DEPLOYMENTS, rows, "No deployment has included this device.")


def _show_commands(context: Context, documents: list[Any]) -> None:
    context.screen.heading("Last commands")
    rows = [
        (command.kind, command.state, command.outcome, command.created_at, command.outcome_message)
        for command in map(Command.parse, documents)
    ]
    context.screen.table_or(COMMANDS, rows, "The server has not sent a command.")
