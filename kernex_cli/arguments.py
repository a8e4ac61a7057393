"""Shared parts of all commands: global options, argument types, and the context that a command runs in."""

import argparse
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property

from kernex_cli import credentials
from kernex_cli.client import Client
from kernex_cli.errors import BadUsage
from kernex_cli.manifest import NAME
from kernex_cli.parser import Parser
from kernex_cli.screen import Screen

EXAMPLE_ID = "5b1f0f0e"
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
SIZE_UNITS = {"": 1, "K": 1024, "M": 1024 * 1024}
# How long a call is retried if the server does not respond: briefly for lists, longer for a push or a deployment.
RETRY_SECONDS, LONG_RETRY_SECONDS = 10, 300


@dataclass
class Context:
    """The arguments, environment and screen of one command."""

    arguments: argparse.Namespace
    environment: Mapping[str, str]
    screen: Screen

    @cached_property
    def client(self) -> Client:
        """A client for the server that the user chose or logged in to. Raises `NotAllowed` without credentials."""
        return self.client_for(credentials.load(self.environment, self.arguments.server))

    def client_for(self, chosen: credentials.Credentials) -> Client:
        """Return a client for these credentials."""
        retry_for = self.arguments.retry_for
        seconds = self.arguments.default_retry_for if retry_for is None else retry_for
        return Client(chosen, seconds, self.screen.note)

    def confirm(self, question: str) -> None:
        """Return if `--yes` was given or the user agrees. Raises `BadUsage`."""
        if not self.arguments.yes and not self.screen.confirmed(question):
            raise BadUsage("Not confirmed, so nothing was changed: answer `y`, or give --yes.")


Commands = argparse._SubParsersAction  # argparse has no public name for this type
Run = Callable[[Context], int]


@dataclass(frozen=True)
class Help:
    """The help of a command. `summary` is shown in the list of commands."""

    summary: str
    text: str = ""
    examples: str = ""


def add_command(
    commands: "Commands[Parser]", name: str, run: Run, texts: Help, retry_seconds: int = RETRY_SECONDS
) -> Parser:
    """Add a command with the global options."""
    parser = commands.add_parser(
        name,
        help=texts.summary,
        description=f"{texts.summary[0].upper()}{texts.summary[1:]}.\n\n{texts.text}".strip(),
        epilog=f"examples:\n{texts.examples.rstrip()}" if texts.examples else None,
    )
    parser.set_defaults(run=run, default_retry_for=retry_seconds)
    group = parser.add_argument_group("options of every command")
    # The main parser has the same options. A default here would overwrite a value given before the command's name.
    add_global_options(group, default=argparse.SUPPRESS, retry_default=f"{retry_seconds}s")
    return parser


def add_global_options(
    group: argparse._ArgumentGroup | Parser, *, default: object = None, retry_default: str = "10s"
) -> None:
    """Add the options that are allowed before and after the command's name."""
    flag_default = False if default is None else default
    group.add_argument("--json", action="store_true", default=flag_default, help="print the result as JSON")
    group.add_argument(
        "-v", "--verbose", action="store_true", default=flag_default,
        help="show full ids, absolute times, full messages and all columns",
    )  # fmt: skip
    group.add_argument(
        "--server", metavar="URL", default=default, help="the server to use instead of the one that you logged in to"
    )
    group.add_argument(
        "--retry-for", type=duration, default=default, metavar="TIME",
        help=f"how long to retry a request if the server does not respond (default: {retry_default})",
    )  # fmt: skip


def add_yes(parser: Parser) -> None:
    """Add `--yes` to a command that calls `Context.confirm`."""
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation; required without a terminal")


def add_timeout(parser: Parser, result: str) -> None:
    """Add `--timeout` to a command that waits for `result`."""
    parser.add_argument(
        "--timeout", type=duration, metavar="TIME", help=f"how long to wait for {result} (default: no limit)"
    )


def duration(text: str) -> int:
    """Return `90`, `90s`, `15m`, `2h` or `1d` in seconds."""
    match = re.fullmatch(r"([0-9]{1,9})([smhd]?)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: write 90s, 15m, 2h or 1d")
    return int(match[1]) * UNITS[match[2]]


def moment(text: str) -> str:
    """Return `2h` (from now) or `2026-12-24T20:00Z` as the API's text for a time."""
    if re.fullmatch(r"[0-9]{1,9}[smhd]", text):
        return (datetime.now(UTC) + timedelta(seconds=duration(text))).isoformat()
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time: write 2h (from now) or 2026-12-24T20:00Z") from None
    return parsed.astimezone().isoformat()


def byte_count(text: str) -> int:
    """Return `4096`, `64K` or `1M` in bytes."""
    match = re.fullmatch(r"([0-9]{1,9})([KM]?)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: write 65536, 64K or 1M")
    return int(match[1]) * SIZE_UNITS[match[2]]


def positive_number(text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least 1")
    return int(text)


def id_prefix(text: str) -> str:
    """Return an id, or its first digits, as lower-case hex digits without hyphens."""
    digits = text.replace("-", "").lower()
    if not re.fullmatch(r"[0-9a-f]{4,32}", digits):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an id: copy one from a list, such as {EXAMPLE_ID}; its first digits are enough"
        )
    return digits


def bundle_name(text: str) -> str:
    """Return the name or version of a bundle."""
    if not NAME.fullmatch(text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a valid name: use 1 to 63 characters of a-z, 0-9 and `._+-`, and begin with a-z or 0-9"
        )
    return text


def bundle_label(text: str) -> str:
    """Return `NAME@VERSION`."""
    name, _, version = text.partition("@")
    if not NAME.fullmatch(name) or not NAME.fullmatch(version):
        raise argparse.ArgumentTypeError(f"{text!r} is not a bundle: write NAME@VERSION, such as vad@1.0.0")
    return text
