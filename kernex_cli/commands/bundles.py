"""`bundles`, `withdraw` and `discard`."""

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
from kernex_cli.formatting import size_text
from kernex_cli.lookup import suggestions_for
from kernex_cli.parser import Parser
from kernex_cli.resources import Bundle
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
LIST = Help(
    "list bundles, newest first", examples="  kernex bundles --state ready\n  kernex bundles --name vad --json\n"
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
    for parser in (withdraw, discard):
        parser.add_argument("bundle", type=bundle_label, metavar="NAME@VERSION", help="the bundle")
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
