"""`bundles`: what could be deployed."""

from argparse import ArgumentParser

from kernex.cli.arguments import Commands, Context, add_command, at_least_one, plain_name
from kernex.cli.errors import Exit
from kernex.cli.screen import size, when

STATES = ("draft", "verifying", "ready", "withdrawn")


def add_to(commands: "Commands[ArgumentParser]") -> None:
    parser = add_command(
        commands, "bundles", show_bundles, "list bundles, newest first",
        examples="  kernex bundles --state ready\n  kernex bundles --name vad --json\n",
    )  # fmt: skip
    parser.add_argument("--name", type=plain_name, help="only bundles of this name")
    parser.add_argument("--state", choices=STATES, help="only bundles in this state")
    parser.add_argument("--limit", type=at_least_one, default=0, metavar="N", help="only the first N (default: all)")


def show_bundles(context: Context) -> int:
    arguments = context.arguments
    filters = {name: value for name in ("name", "state") if (value := getattr(arguments, name))}
    bundles = context.client.pages("/bundles", filters, arguments.limit)
    rows = [
        (
            f"{bundle['name']}@{bundle['version']}", bundle["state"], size(bundle["size"]), bundle["file_count"],
            when(bundle["created_at"]), bundle["state_reason"],
        )
        for bundle in bundles
    ]  # fmt: skip
    context.screen.listing(bundles, ("BUNDLE", "STATE", "SIZE", "FILES", "CREATED", "REASON"), rows)
    return Exit.OK
