"""`login` and `logout`."""

import getpass
import sys
from pathlib import Path
from urllib.parse import urlsplit

import requests

from kernex_cli import credentials
from kernex_cli.arguments import Commands, Context, Help, add_command
from kernex_cli.credentials import LOOPBACK, Credentials
from kernex_cli.errors import BadUsage, Exit, LocalProblem, Refused, Unreachable
from kernex_cli.parser import Parser

PROBE_TIMEOUT_SECONDS = 5
LOGIN = Help(
    "store an API token for a server",
    "Create the API token in the admin. The command prompts for it on a terminal. It can also read the token from\n"
    "standard input, --token-file or the variable KERNEX_TOKEN. The token is never a command-line argument, because\n"
    "every user of this machine can see those. The command verifies the token with the server and stores it in\n"
    "~/.config/kernex/credentials.toml, readable only by you.",
    "  kernex login https://fleet.example.com\n"
    "  kernex login https://fleet.example.com --token-file /run/secrets/kernex\n"
    "  pass show kernex | kernex login https://fleet.example.com\n",
)
LOGOUT = Help(
    "remove the stored API token", "The token itself stays valid until it is revoked in the admin.", "  kernex logout\n"
)


def add_to(commands: "Commands[Parser]") -> None:
    login = add_command(commands, "login", log_in, LOGIN)
    login.add_argument("url", nargs="?", metavar="SERVER", help="the server's URL (default: KERNEX_SERVER)")
    login.add_argument("--token-file", metavar="FILE", help="read the API token from FILE; `-` is standard input")
    add_command(commands, "logout", log_out, LOGOUT)


def log_in(context: Context) -> int:
    path = credentials.location(context.environment)
    url = context.arguments.url or context.arguments.server or context.environment.get("KERNEX_SERVER")
    if not url:
        raise BadUsage("No server given: run `kernex login https://fleet.example.com`, or set KERNEX_SERVER.")
    server = credentials.server_url(url)
    if urlsplit(server).scheme == "http" and urlsplit(server).hostname not in LOOPBACK:
        context.screen.note(f"Warning: {server} is not encrypted; anyone on the network can read the token.", "yellow")
    login = Credentials(server, credentials.check_token(_read_token(context, server)))
    try:
        status = context.client_for(login).get("/status")
    except (Unreachable, Refused) as error:
        # A proxy in front of an HTTPS port responds to plain HTTP with 400, without an error code of Kernex.
        if isinstance(error, Refused) and error.code:
            raise
        raise Unreachable(f"{error}{_scheme_advice(server)}") from None
    credentials.write(path, login)
    version = status.get("version", "")
    context.screen.result({"server": server, "version": version}, f"Logged in to {server} (Kernex {version}).")
    return Exit.OK


def _scheme_advice(server: str) -> str:
    """Return the command to run if the server responds with the other scheme. The token is not sent."""
    is_https = urlsplit(server).scheme == "https"
    other = ("http" if is_https else "https") + server[server.index(":") :]
    try:
        requests.get(f"{other}/health/live", timeout=PROBE_TIMEOUT_SECONDS, allow_redirects=False).close()
    except requests.exceptions.SSLError as error:
        if "CERTIFICATE_VERIFY_FAILED" not in str(error):
            return ""
    except requests.RequestException:
        return ""
    if is_https:
        return f"\nIt responds without TLS. In a network that you trust: kernex login {other}"
    return f"\nIt requires TLS: kernex login {other}"


def _read_token(context: Context, server: str) -> str:
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
    was_logged_in = credentials.forget(path)
    context.screen.result(
        {"logged_out": was_logged_in}, f"Removed {path}." if was_logged_in else "You were not logged in."
    )
    return Exit.OK
