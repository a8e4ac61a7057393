"""`status`: the fleet in one look."""

from argparse import ArgumentParser

from kernex_cli.arguments import Commands, Context, add_command
from kernex_cli.errors import Exit


def add_to(commands: "Commands[ArgumentParser]") -> None:
    add_command(
        commands, "status", show_status, "count devices, deployments and bundles",
        examples="  kernex status\n  kernex status --json | jq .devices.offline\n",
    )  # fmt: skip


def show_status(context: Context) -> int:
    status = context.client.get("/status")
    if context.screen.as_json:
        context.screen.result(status)
        return Exit.OK
    rows = [("server", context.client.server), ("version", status.get("version"))]
    for subject in ("devices", "deployments", "bundles"):
        rows += [(f"{subject} {state}", count) for state, count in status.get(subject, {}).items()]
    context.screen.table(("WHAT", "HOW MANY"), rows)
    return Exit.OK
