"""`status`."""

from kernex_cli.arguments import Commands, Context, Help, add_command
from kernex_cli.errors import Exit
from kernex_cli.parser import Parser
from kernex_cli.tables import Column

STATUS = Help(
    "show how many devices, deployments and bundles there are",
    examples="  kernex status\n  kernex status --json | jq .devices.offline\n",
)
COLUMNS = (Column("WHAT"), Column("VALUE"))


def add_to(commands: "Commands[Parser]") -> None:
    add_command(commands, "status", show_status, STATUS)


def show_status(context: Context) -> int:
    status = context.client.get("/status")
    if context.screen.as_json:
        context.screen.result(status)
        return Exit.OK
    rows = [("server", context.client.server), ("version", status.get("version"))]
    for subject in ("devices", "health", "deployments", "bundles"):
        rows += [(f"{subject} {name.replace('_', ' ')}", value) for name, value in status.get(subject, {}).items()]
    context.screen.table(COLUMNS, rows)
    return Exit.OK
