"""`devices`, `change`, `approve`, `reject` and `decommission`."""

import argparse
from collections.abc import Mapping
from itertools import chain, islice

from kernex_cli.arguments import Commands, Context, Help, add_command, add_yes, positive_number
from kernex_cli.errors import BadUsage, Exit
from kernex_cli.lookup import check_group, find_device, suggestions_for
from kernex_cli.parser import Parser
from kernex_cli.resources import Device, RunningBundle
from kernex_cli.tables import Column, ColumnType

STATES = ("pending", "accepted", "decommissioned")
HEALTH = ("healthy", "restarting", "unhealthy", "unknown")
COLUMNS = (
    Column("NAME"),
    Column("ID", ColumnType.ID),
    Column("STATE", ColumnType.STATE, rank=1),
    Column("LIVENESS", rank=2),
    Column("HEALTH", ColumnType.STATE),
    Column("GROUP", rank=3),
    Column("TYPE", rank=4),
    Column("RUNS", ColumnType.TEXT),
    Column("LAST HEARTBEAT", ColumnType.TIME),
)
DEVICE_HELP = "the device's name, its id, or the first digits of its id"
PERMANENT = "The server refuses the device's key from then on. To register again, the device needs a new key."
LIST = Help(
    "list devices and what they run",
    """\
QUERY is a word that names contain, or conditions joined with `and`, `or`, `not` and parentheses. Fields: name, id,
group, tag, test, type, state, health, online, last_heartbeat, registered, agent, serial, attr.KEY, metric.KEY,
verdict.PRODUCT.KEY, runs.PRODUCT, deployment, deployment.ID and drift. Operators: = != < <= > >= ~ (contains), in (…),
is set. `kernex device NAME` shows everything about one device.""",
    """\
  kernex devices
  kernex devices 'runs.vad < 1.4 and health = unhealthy'
  kernex devices 'last_heartbeat < 1h ago or attr.board in (r4, r5)'
  kernex devices --state pending
  kernex devices --group lab --online --json
  kernex devices 'drift = true' --csv > drift.csv
""",
)
APPROVE = Help(
    "accept a device that is waiting for approval",
    examples="  kernex devices --state pending\n  kernex approve shelf-4\n  kernex approve 6f0c6a5e\n",
)
CHANGE = Help(
    "change a device's name, group, tags or test flag",
    "Values that you do not give stay unchanged. Existing deployments are not affected.",
    "  kernex change shelf-4 --group canary\n  kernex change shelf-4 --name door-7 --tag north\n"
    "  kernex change bench-1 --test\n",
)
REJECT = Help(
    "permanently refuse a device that is waiting for approval",
    PERMANENT,
    "  kernex devices --state pending\n  kernex reject shelf-4\n",
)
DECOMMISSION = Help(
    "take a device out of service permanently",
    PERMANENT,
    "  kernex decommission shelf-4\n  kernex decommission shelf-4 --yes --json\n",
)


def add_to(commands: "Commands[Parser]") -> None:
    parser = add_command(commands, "devices", show_devices, LIST)
    parser.add_argument("query", nargs="?", default="", metavar="QUERY", help="only devices that match; see above")
    parser.add_argument("--state", choices=STATES, help="only devices in this state")
    liveness = parser.add_mutually_exclusive_group()
    liveness.add_argument("--online", dest="online", action="store_const", const="true", help="only devices online")
    liveness.add_argument("--offline", dest="online", action="store_const", const="false", help="only devices offline")
    parser.add_argument("--health", choices=HEALTH, help="only devices of this health")
    parser.add_argument("--group", help="only devices of this group")
    parser.add_argument("--limit", type=positive_number, default=0, metavar="N", help="only the first N (default: all)")
    parser.add_argument("--csv", action="store_true", help="print all devices that match as CSV")
    approve = add_command(commands, "approve", approve_device, APPROVE)
    change = add_command(commands, "change", change_device, CHANGE)
    change.add_argument("--group", help="the group to move it to")
    change.add_argument("--name", help="its new name")
    change.add_argument(
        "--test", action=argparse.BooleanOptionalAction, help="whether it is a test device, outside of the statistics"
    )
    change.add_argument("--tag", action="append", dest="tags", metavar="TAG", help="its new tags (repeatable)")
    reject = add_command(commands, "reject", reject_device, REJECT)
    decommission = add_command(commands, "decommission", decommission_device, DECOMMISSION)
    for parser in (approve, change, reject, decommission):
        parser.add_argument("device", metavar="DEVICE", help=DEVICE_HELP)
    for parser in (reject, decommission):
        add_yes(parser)


def show_devices(context: Context) -> int:
    arguments = context.arguments
    filters = {name: value for name in ("state", "online", "health", "group") if (value := getattr(arguments, name))}
    if arguments.query:
        filters["q"] = arguments.query
    if arguments.csv and (arguments.limit or context.screen.as_json):
        raise BadUsage("--csv cannot be combined with --limit or --json.")
    if arguments.csv or (context.screen.as_json and not arguments.limit):
        return export_devices(context, filters)
    documents = context.client.pages("/devices", filters, arguments.limit)
    if not documents and arguments.group:
        check_group(context.client, arguments.group)
    rows = [
        (
            device.name, device.id, device.state, device.liveness, device.health, device.group, device.device_type,
            [running_text(release) for release in device.running], device.last_heartbeat_at,
        )
        for device in map(Device.parse, documents)
    ]  # fmt: skip
    context.screen.listing(documents, COLUMNS, rows)
    return Exit.OK


def export_devices(context: Context, filters: Mapping[str, str]) -> int:
    """Print all devices that match while they arrive, as CSV or as one JSON document."""
    is_csv = context.arguments.csv
    export_format, content_type = ("csv", "text/csv") if is_csv else ("jsonl", "application/x-ndjson")
    lines = context.client.lines("/devices/export", {**filters, "format": export_format}, content_type)
    header = list(islice(lines, 1)) if is_csv else []
    first = list(islice(lines, 1))
    if not first and context.arguments.group:
        check_group(context.client, context.arguments.group)
    if is_csv:
        for line in chain(header, first, lines):
            context.screen.text(f"{line}\n")
    else:
        context.screen.streamed_listing(chain(first, lines))
    return Exit.OK


def running_text(release: RunningBundle) -> str:
    return release.label if release.is_healthy else f"{release.label} (unhealthy)"


def approve_device(context: Context) -> int:
    return _decide(context, find_device(context.client, context.arguments.device), "approve")


def change_device(context: Context) -> int:
    arguments = context.arguments
    changes = {
        name: value for name in ("group", "name", "tags", "test") if (value := getattr(arguments, name)) is not None
    }
    if not changes:
        raise BadUsage("Nothing to change: give --group, --name, --tag or --test.")
    device_id = find_device(context.client, arguments.device)
    with suggestions_for(context.client, groups=[arguments.group] if arguments.group else []):
        document = context.client.call("PATCH", f"/devices/{device_id}", json=changes)
    device = Device.parse(document)
    kind = "a test device " if device.test else ""
    tags = f", tagged {', '.join(device.tags)}" if device.tags else ""
    context.screen.result(document, f"{device.display_name} is {kind}in {device.group}{tags}.")
    return Exit.OK


def reject_device(context: Context) -> int:
    return _decide_permanently(context, "reject")


def decommission_device(context: Context) -> int:
    return _decide_permanently(context, "decommission")


def _decide_permanently(context: Context, verb: str) -> int:
    text = context.arguments.device
    device_id = find_device(context.client, text)
    context.confirm(f"{verb.capitalize()} {text} permanently?")
    return _decide(context, device_id, verb)


def _decide(context: Context, device_id: str, verb: str) -> int:
    document = context.client.post(f"/devices/{device_id}/{verb}")
    device = Device.parse(document)
    context.screen.result(document, f"{device.display_name} is {device.state}.")
    return Exit.OK
