"""`login` and `logout`."""

import getpass
import sys
from argparse import ArgumentParser
from pathlib import Path
from urllib.parse import urlsplit

from kernex_cli import credentials
from kernex_cli.arguments import Commands, Context, add_command
from kernex_cli.credentials import LOOPBACK, Credentials
from kernex_cli.errors import BadUsage, Exit, LocalProblem

LOGIN = """\
The API token is asked for, or read from standard input, from --token-file, or from the variable KERNEX_TOKEN: never
from the command line, where every user of this machine could see it. It is checked with the server and stored in
~/.config/kernex/credentials.toml, readable by you only. API tokens are made in the admin."""
LOGIN_EXAMPLES = """\
  kernex login https://fleet.example.com
  kernex login https://fleet.example.com --token-file /run/secrets/kernex
  pass show kernex | kernex login https://fleet.example.com
"""


def add_to(commands: "Commands[ArgumentParser]") -> None:
    login = add_command(
        commands, "login", log_in, "store an API token for a server", text=LOGIN, examples=LOGIN_EXAMPLES
    )
    login.add_argument("address", nargs="?", metavar="SERVER", help="the server's address (default: KERNEX_SERVER)")
    login.add_argument("--token-file", metavar="FILE", help="read the API token from FILE; `-` is standard input")
    add_command(
        commands, "logout", log_out, "forget the stored API token",
        text="The token itself stays valid until it is revoked in the admin.", examples="  kernex logout\n",
    )  # fmt: skip


def log_in(context: Context) -> int:
    path = credentials.location(context.environment)
    given = context.arguments.address or context.arguments.server or context.environment.get("KERNEX_SERVER")
    if not given:
        raise BadUsage("Which server? Run `kernex login https://fleet.example.com`, or set KERNEX_SERVER.")
    server = credentials.server_address(given)
    if urlsplit(server).scheme == "http" and urlsplit(server).hostname not in LOOPBACK:
        context.screen.note(f"Warning: {server} is not encrypted; whoever can listen learns the token.", "yellow")
    found = Credentials(server, credentials.check_token(_token(context, server)))
    status = context.client_for(found).get("/status")
    credentials.write(path, found)
    version = status.get("version", "")
    context.screen.result({"server": server, "version": version}, f"Logged in to {server} (Kernex {version}).")
    return Exit.OK


def _token(context: Context, server: str) -> str:
    file = context.arguments.token_file
    if file and file != "-":
        try:
            return Path(file).read_text("utf-8")
        except (OSError, ValueError) as error:
            raise LocalProblem(f"{file} cannot be read: {error}.") from None
    if not file and context.environment.get("KERNEX_TOKEN"):
        return context.environment["KERNEX_TOKEN"]
    if file or not sys.stdin.isatty():
        return sys.stdin.readline()
    return getpass.getpass(f"API token for {server}: ")


def log_out(context: Context) -> int:
    path = credentials.location(context.environment)
    was_there = credentials.forget(path)
    context.screen.result(
        {"logged_out": was_there}, f"Removed {path}." if was_there else "Nobody was logged in: nothing to forget."
    )
    return Exit.OK
