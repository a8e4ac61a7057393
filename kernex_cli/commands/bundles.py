"""`bundles`, `withdraw` and `discard`: what could be deployed."""

from argparse import ArgumentParser

from kernex_cli.arguments import (
    Commands,
    Context,
    add_command,
    add_yes,
    at_least_one,
    label,
    plain_name,
)
from kernex_cli.errors import Exit
from kernex_cli.screen import size, when

STATES = ("draft", "verifying", "ready", "withdrawn")
WITHDRAW = (
    "Nobody can deploy it any more, and devices that wait for it stop waiting. Those that run it keep running it."
)
DISCARD = """\
Its version is free again, for another manifest. Files that were stored for it are not sent again when they are pushed
with another bundle."""


def add_to(commands: "Commands[ArgumentParser]") -> None:
    parser = add_command(
        commands, "bundles", show_bundles, "list bundles, newest first",
        examples="  kernex bundles --state ready\n  kernex bundles --name vad --json\n",
    )  # fmt: skip
    parser.add_argument("--name", type=plain_name, help="only bundles of this name")
    parser.add_argument("--state", choices=STATES, help="only bundles in this state")
    parser.add_argument("--limit", type=at_least_one, default=0, metavar="N", help="only the first N (default: all)")
    withdraw = add_command(
        commands, "withdraw", withdraw_bundle, "take a ready bundle out of service, for good",
        text=WITHDRAW, examples="  kernex withdraw vad@1.0.0\n  kernex withdraw vad@1.0.0 --yes --json\n",
    )  # fmt: skip
    discard = add_command(
        commands, "discard", discard_draft, "delete a draft that was never published",
        text=DISCARD, examples="  kernex bundles --state draft\n  kernex discard vad@1.0.0\n",
    )  # fmt: skip
    for parser in (withdraw, discard):
        parser.add_argument("bundle", type=label, metavar="NAME@VERSION", help="the bundle")
        add_yes(parser)


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


def withdraw_bundle(context: Context) -> int:
    context.confirm(f"Withdraw {context.arguments.bundle} for good?")
    bundle = context.client.post(f"{_address(context.arguments.bundle)}/withdraw")
    context.screen.result(bundle, f"{context.arguments.bundle} is {bundle['state']}.")
    return Exit.OK


def discard_draft(context: Context) -> int:
    context.confirm(f"Discard {context.arguments.bundle}?")
    context.client.delete(_address(context.arguments.bundle))
    context.screen.result({"discarded": context.arguments.bundle}, f"{context.arguments.bundle} was discarded.")
    return Exit.OK


def _address(bundle: str) -> str:
    name, _, version = bundle.partition("@")
    return f"/bundles/{name}/{version}"
