"""What every command's arguments have in common."""

import argparse
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from kernex_cli import credentials
from kernex_cli.client import Client
from kernex_cli.errors import BadUsage
from kernex_cli.manifest import NAME
from kernex_cli.screen import Screen

EXAMPLE_ID = "5b1f0f0e-3c1b-4b0c-8f57-2f1f6b6f3a11"
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
# How long a call goes on trying when the server does not answer: short where somebody watches, long for a push.
PATIENCE_SECONDS, LONG_PATIENCE_SECONDS = 10, 300


@dataclass
class Context:
    """What a command runs with."""

    arguments: argparse.Namespace
    environment: Mapping[str, str]
    screen: Screen

    @cached_property
    def client(self) -> Client:
        """The connection to the server that is logged in to. Raises `NotAllowed` when none is."""
        found = credentials.load(self.environment, self.arguments.server)
        return self.client_for(found)

    def client_for(self, found: credentials.Credentials) -> Client:
        return Client(found, self.arguments.retry_for, self.screen.note)

    def confirm(self, question: str) -> None:
        """Go on if `--yes` was given or somebody at the terminal agrees. Raises `BadUsage`."""
        if not self.arguments.yes and not self.screen.agreed(question):
            raise BadUsage("Nothing was changed: answer `y`, or give --yes.")


Commands = argparse._SubParsersAction  # argparse gives this type no public name
Run = Callable[[Context], int]


def add_command(
    commands: "Commands[argparse.ArgumentParser]",
    name: str,
    run: Run,
    summary: str,
    *,
    text: str = "",
    examples: str = "",
    patience: int = PATIENCE_SECONDS,
) -> argparse.ArgumentParser:
    """A command with the options that all of them have. `summary` is its line in the list of commands."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.\n\n{text}".strip(),
        epilog=f"examples:\n{examples.rstrip()}" if examples else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    everywhere = parser.add_argument_group("options of every command")
    everywhere.add_argument("--json", action="store_true", help="print the result as one JSON document")
    everywhere.add_argument("--server", metavar="URL", help="another server than the one logged in to")
    everywhere.add_argument(
        "--retry-for", type=duration, default=patience, metavar="TIME",
        help=f"how long to go on trying while the server does not answer (default: {patience}s)",
    )  # fmt: skip
    return parser


def add_yes(parser: argparse.ArgumentParser) -> None:
    """For a command whose `Context.confirm` asks first."""
    parser.add_argument("--yes", action="store_true", help="do not ask; needed where nobody can answer")


def duration(text: str) -> int:
    """`90`, `90s`, `15m`, `2h` or `1d` in seconds."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd]?)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no time: write 90s, 15m, 2h or 1d")
    return int(match[1]) * UNITS[match[2]]


def at_least_one(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def identifier(text: str) -> str:
    """An id as the server gives them out."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no id: copy one from a list, such as {EXAMPLE_ID}") from None


def plain_name(text: str) -> str:
    """The name or version of a bundle."""
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no name: begin with a-z or 0-9, go on with a-z, 0-9 or `._+-`, at most 63 characters"
        )
    return text


def label(text: str) -> str:
    """`NAME@VERSION`."""
    name, _, version = text.partition("@")
    if not NAME.fullmatch(name) or not NAME.fullmatch(version):
        raise argparse.ArgumentTypeError(f"{text!r} is no bundle: write NAME@VERSION, such as vad@1.0.0")
    return text
