"""`events`: list what happened and who did it."""

from kernex_cli.arguments import Commands, Context, Help, add_command, id_prefix, positive_number
from kernex_cli.commands.devices import DEVICE_HELP
from kernex_cli.errors import Exit
from kernex_cli.lookup import find_deployment, find_device
from kernex_cli.parser import Parser
from kernex_cli.resources import Event
from kernex_cli.tables import Column, ColumnType

COLUMNS = (
    Column("WHEN", ColumnType.TIME),
    Column("KIND", rank=3),
    Column("ACTOR", rank=2),
    Column("DEVICE", ColumnType.ID, rank=4),
    Column("DEPLOYMENT", ColumnType.ID, rank=5),
    Column("MESSAGE", ColumnType.TEXT, shortest=40),
)
EVENTS = Help(
    "list events, newest first",
    "An event says what happened, to which device, bundle or deployment, and who did it.",
    "  kernex events\n  kernex events --device shelf-4 --limit 100\n  kernex events --kind device.registered --json\n",
)


def add_to(commands: "Commands[Parser]") -> None:
    parser = add_command(commands, "events", show_events, EVENTS)
    parser.add_argument("--device", help=f"only events of one device: {DEVICE_HELP}")
    parser.add_argument("--deployment", type=id_prefix, metavar="ID", help="only events of one deployment")
    parser.add_argument("--kind", help="only events of this kind, such as device.registered")
    parser.add_argument("--limit", type=positive_number, default=20, metavar="N", help="only the first N (default: 20)")


def show_events(context: Context) -> int:
    arguments, client = context.arguments, context.client
    filters: dict[str, str] = {}
    if arguments.device:
        filters["device"] = find_device(client, arguments.device)
    if arguments.deployment:
        filters["deployment"] = find_deployment(client, arguments.deployment)
    if arguments.kind:
        filters["kind"] = arguments.kind
    documents = client.pages("/events", filters, arguments.limit)
    rows = [
        (event.at, event.kind, event.actor, event.device_id, event.deployment_id, event.message)
        for event in map(Event.parse, documents)
    ]
    context.screen.listing(documents, COLUMNS, rows)
    return Exit.OK
