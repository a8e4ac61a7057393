"""`groups` and `group create`."""

from kernex_cli.arguments import Commands, Context, Help, add_command, duration
from kernex_cli.errors import Exit
from kernex_cli.parser import Parser
from kernex_cli.tables import Column, ColumnType

COLUMNS = (Column("NAME"), Column("HEARTBEAT SECONDS"), Column("DESCRIPTION", ColumnType.TEXT))
LIST = Help("list groups of devices", examples="  kernex groups\n  kernex groups --json\n")
CREATE = Help(
    "create a group of devices",
    examples='  kernex group create lab\n  kernex group create lab --every 10s --description "the desk in room 4"\n',
)


def add_to(commands: "Commands[Parser]") -> None:
    add_command(commands, "groups", show_groups, LIST)
    group = commands.add_parser(
        "group", help="create groups of devices", description="A group decides how often its devices report."
    )
    verbs = group.add_subparsers(title="commands", metavar="VERB", required=True)
    create = add_command(verbs, "create", create_group, CREATE)
    create.add_argument("group", metavar="NAME", help="1 to 63 characters of a-z, 0-9 and `._+-`")
    create.add_argument("--every", type=duration, metavar="TIME", help="how often devices report (default: 60s)")
    create.add_argument("--description", default="", metavar="TEXT", help="what the group is for")


def show_groups(context: Context) -> int:
    groups = context.client.pages("/groups", {})
    rows = [(group["name"], group.get("interval_seconds"), group.get("description")) for group in groups]
    context.screen.listing(groups, COLUMNS, rows)
    return Exit.OK


def create_group(context: Context) -> int:
    arguments = context.arguments
    body = {"name": arguments.group, "description": arguments.description}
    if arguments.every is not None:
        body["interval_seconds"] = arguments.every
    group = context.client.post("/groups", body, idempotent=False)
    context.screen.result(group, f"Group {group['name']}: devices report every {group['interval_seconds']} s.")
    return Exit.OK
