"""`groups` and `group create`: what devices come into, and are chosen by."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter

from kernex_cli.arguments import Commands, Context, add_command, duration
from kernex_cli.errors import Exit

EXAMPLES = """\
  kernex group create lab
  kernex group create lab --every 10s --description "the desk in room 4"
"""


def add_to(commands: "Commands[ArgumentParser]") -> None:
    add_command(commands, "groups", show_groups, "list groups of devices", examples="  kernex groups\n")
    group = commands.add_parser(
        "group", help="make groups of devices", description="A group decides how often its devices report.",
        formatter_class=RawDescriptionHelpFormatter, allow_abbrev=False,
    )  # fmt: skip
    verbs = group.add_subparsers(title="commands", metavar="VERB", required=True)
    create = add_command(verbs, "create", create_group, "make a group of devices", examples=EXAMPLES)
    create.add_argument("group", metavar="NAME", help="1 to 63 of a-z, 0-9 and `._+-`")
    create.add_argument("--every", type=duration, metavar="TIME", help="how often devices report (default: 60s)")
    create.add_argument("--description", default="", metavar="TEXT", help="what the group is for")


def show_groups(context: Context) -> int:
    groups = context.client.pages("/groups", {})
    rows = [(group["name"], group.get("interval_seconds"), group.get("description")) for group in groups]
    context.screen.listing(groups, ("NAME", "HEARTBEAT SECONDS", "DESCRIPTION"), rows)
    return Exit.OK


def create_group(context: Context) -> int:
    arguments = context.arguments
    body = {"name": arguments.group, "description": arguments.description}
    if arguments.every is not None:
        body["interval_seconds"] = arguments.every
    group = context.client.post("/groups", body, once=True)
    context.screen.result(group, f"Group {group['name']}: devices report every {group['interval_seconds']} s.")
    return Exit.OK
