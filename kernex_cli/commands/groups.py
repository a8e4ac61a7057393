"""`groups`, `group create`, `group change` and `group show`."""

from urllib.parse import quote

from kernex_cli.arguments import Commands, Context, Help, add_command, duration
from kernex_cli.errors import BadUsage, Exit
from kernex_cli.parser import Parser
from kernex_cli.resources import Group
from kernex_cli.tables import Column, ColumnType

COLUMNS = (
    Column("NAME"),
    Column("HEARTBEAT SECONDS", rank=1),
    Column("DESCRIPTION", ColumnType.TEXT, rank=2),
    Column("QUERY", ColumnType.TEXT),
)
LIST = Help("list groups of devices", examples="  kernex groups\n  kernex groups --json\n")
CREATE = Help(
    "create a group of devices",
    "With --query, the group is dynamic: it contains all devices that match, and deployments use it like a static\n"
    "group. A group stays static or dynamic.",
    """\
  kernex group create lab
  kernex group create lab --every 10s --description "the desk in room 4"
  kernex group create old --query 'runs.vad < 1.4'
""",
)
CHANGE = Help(
    "change a group of devices",
    "Values that you do not give stay unchanged.",
    "  kernex group change lab --every 30s\n  kernex group change old --query 'runs.vad < 1.5' --name older\n",
)
SHOW = Help("show a group and the number of its devices", examples="  kernex group show lab\n")

EXAMPLES = """\
examples:
  kernex group create lab --every 10s
  kernex group change lab --description "the desk in room 4"
  kernex group show lab
"""


def add_to(commands: "Commands[Parser]") -> None:
    add_command(commands, "groups", show_groups, LIST)
    group = commands.add_parser(
        "group",
        help="create, change and show groups of devices",
        description="A static group decides how often its devices report. A dynamic group is a saved query.",
        epilog=EXAMPLES,
    )
    verbs = group.add_subparsers(title="commands", metavar="VERB", required=True)
    create = add_command(verbs, "create", create_group, CREATE)
    create.add_argument("group", metavar="NAME", help="1 to 63 characters of a-z, 0-9 and `._+-`")
    change = add_command(verbs, "change", change_group, CHANGE)
    change.add_argument("group", metavar="NAME", help="the group's name")
    change.add_argument("--name", metavar="NAME", help="its new name")
    for parser in (create, change):
        parser.add_argument("--every", type=duration, metavar="TIME", help="how often devices report (default: 60s)")
        parser.add_argument("--description", metavar="TEXT", help="what the group is for")
        parser.add_argument("--query", metavar="QUERY", help="the query of a dynamic group")
    show = add_command(verbs, "show", show_group, SHOW)
    show.add_argument("group", metavar="NAME", help="the group's name")


def show_groups(context: Context) -> int:
    documents = context.client.pages("/groups", {})
    groups = map(Group.parse, documents)
    rows = [(group.name, group.interval_seconds or "", group.description, group.query) for group in groups]
    context.screen.listing(documents, COLUMNS, rows)
    return Exit.OK


def create_group(context: Context) -> int:
    body = {"name": context.arguments.group, **_given_fields(context)}
    document = context.client.post("/groups", body, idempotent=False)
    context.screen.result(document, Group.parse(document).summary)
    return Exit.OK


def change_group(context: Context) -> int:
    changes = _given_fields(context)
    if context.arguments.name is not None:
        changes["name"] = context.arguments.name
    if not changes:
        raise BadUsage("Nothing to change: give --name, --every, --description or --query.")
    document = context.client.call("PATCH", f"/groups/{quote(context.arguments.group, safe='')}", json=changes)
    context.screen.result(document, Group.parse(document).summary)
    return Exit.OK


def show_group(context: Context) -> int:
    document = context.client.get(f"/groups/{quote(context.arguments.group, safe='')}")
    if context.screen.as_json:
        context.screen.result(document)
        return Exit.OK
    group = Group.parse(document)
    context.screen.fields({
        "name": group.name,
        "description": group.description,
        "query": group.query,
        "heartbeat seconds": group.interval_seconds or "",
        "devices": "counting takes too long" if document["device_count"] is None else document["device_count"],
    })  # fmt: skip
    return Exit.OK


def _given_fields(context: Context) -> dict[str, object]:
    """Return the API's fields that the options give."""
    arguments = context.arguments
    fields = {
        "interval_seconds": arguments.every,
        "description": arguments.description,
        "query": arguments.query,
    }
    return {name: value for name, value in fields.items() if value is not None}
