"""`bundles`, `bundle`, `withdraw` and `discard`."""

from kernex_cli.arguments import (
    Commands,
    Context,
    Help,
    add_command,
    add_yes,
    bundle_label,
    bundle_name,
    positive_number,
)
from kernex_cli.errors import Exit
from kernex_cli.formatting import counted, size_text
from kernex_cli.lookup import suggestions_for
from kernex_cli.parser import Parser
from kernex_cli.resources import Bundle, Device
from kernex_cli.tables import Column, ColumnType

STATES = ("draft", "verifying", "ready", "withdrawn")
COLUMNS = (
    Column("BUNDLE"),
    Column("STATE", ColumnType.STATE),
    Column("SIZE"),
    Column("FILES", rank=1),
    Column("CREATED", ColumnType.TIME),
    Column("REASON", ColumnType.TEXT),
)
DEVICE_COLUMNS = (
    Column("NAME"),
    Column("ID", ColumnType.ID),
    Column("HEALTH", ColumnType.STATE),
    Column("LAST HEARTBEAT", ColumnType.TIME),
)
SHOWN_DEVICES = 20
LIST = Help(
    "list bundles, newest first", examples="  kernex bundles --state ready\n  kernex bundles --name vad --json\n"
)
SHOW = Help(
    "show one bundle and where it runs",
    "The devices that run it are listed with their health, at most 20 of them.",
    "  kernex bundle vad@1.0.0\n  kernex bundle vad@1.0.0 --json | jq .running\n",
)
WITHDRAW = Help(
    "withdraw a ready bundle permanently",
    "It cannot be deployed any more, and devices that wait for it stop waiting. Devices that run it keep running it.",
    "  kernex withdraw vad@1.0.0\n  kernex withdraw vad@1.0.0 --yes --json\n",
)
DISCARD = Help(
    "delete a draft that was never published",
    "Its version can then be used for another manifest. The server keeps the files that it already has, so\n"
    "that a push of another bundle with the same files does not send them again.",
    "  kernex bundles --state draft\n  kernex discard vad@1.0.0\n",
)


def add_to(commands: "Commands[Parser]") -> None:
    parser = add_command(commands, "bundles", show_bundles, LIST)
    parser.add_argument("--name", type=bundle_name, help="only bundles of this name")
    parser.add_argument("--state", choices=STATES, help="only bundles in this state")
    parser.add_argument("--limit", type=positive_number, default=0, metavar="N", help="only the first N (default: all)")
    withdraw = add_command(commands, "withdraw", withdraw_bundle, WITHDRAW)
    discard = add_command(commands, "discard", discard_draft, DISCARD)
    show = add_command(commands, "bundle", show_bundle, SHOW)
    for parser in (show, withdraw, discard):
        parser.add_argument("bundle", type=bundle_label, metavar="NAME@VERSION", help="the bundle")
    for parser in (withdraw, discard):
        add_yes(parser)


def show_bundles(context: Context) -> int:
    arguments = context.arguments
    filters = {name: value for name in ("name", "state") if (value := getattr(arguments, name))}
    documents = context.client.pages("/bundles", filters, arguments.limit)
    rows = [
        (bundle.label, bundle.state, size_text(bundle.size), bundle.file_count, bundle.created_at, bundle.state_reason)
        for bundle in map(Bundle.parse, documents)
    ]
    context.screen.listing(documents, COLUMNS, rows)
    return Exit.OK


def show_bundle(context: Context) -> int:
    label, screen = context.arguments.bundle, context.screen
    name, _, version = label.partition("@")
    with suggestions_for(context.client, bundle=label):
        document = context.client.get(_path(label))
    running = context.client.get(f"{_path(label)}/running")
    devices = context.client.pages("/devices", {"q": f'runs.{name} = "{version}"'}, SHOWN_DEVICES)
    if screen.as_json:
        screen.result({**document, "running": running, "devices": devices})
        return Exit.OK
    bundle = Bundle.parse(document)
    screen.fields({
        "bundle": bundle.label,
        "state": bundle.state,
        "size": size_text(bundle.size),
        "files": bundle.file_count,
        "created": screen.time(bundle.created_at),
        "reason": bundle.state_reason,
    })  # fmt: skip
    summary = ", ".join(f"{count} {health}" for health, count in running.items() if count)
    screen.heading(f"Runs on {counted(sum(running.values()), 'device')}" + (f": {summary}" if summary else ""))
    rows = [(device.name, device.id, device.health, device.last_heartbeat_at) for device in map(Device.parse, devices)]
    screen.table_or(DEVICE_COLUMNS, rows, "No device reports that it runs this bundle.")
    return Exit.OK


def withdraw_bundle(context: Context) -> int:
    label = context.arguments.bundle
    context.confirm(f"Withdraw {label} permanently?")
    with suggestions_for(context.client, bundle=label):
        document = context.client.post(f"{_path(label)}/withdraw")
    context.screen.result(document, f"{label} is {Bundle.parse(document).state}.")
    return Exit.OK


def discard_draft(context: Context) -> int:
    label = context.arguments.bundle
    context.confirm(f"Discard {label}?")
    with suggestions_for(context.client, bundle=label):
        context.client.delete(_path(label))
    context.screen.result({"discarded": label}, f"{label} was discarded.")
    return Exit.OK


def _path(label: str) -> str:
    name, _, version = label.partition("@")
    return f"/bundles/{name}/{version}"
