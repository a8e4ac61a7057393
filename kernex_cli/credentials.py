"""The server that `kernex` uses, and the API token for it.

Both are stored in one file that only its owner may read, `$XDG_CONFIG_HOME/kernex/credentials.toml`. A stored token is
sent only to the server that it was stored for. `KERNEX_SERVER` and `KERNEX_TOKEN` override the file.
"""

import json
import os
import tempfile
import tomllib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from kernex_cli.errors import BadUsage, LocalProblem, NotAllowed

LOOPBACK = {"127.0.0.1", "localhost", "::1"}


@dataclass(frozen=True)
class Credentials:
    server: str
    token: str


def location(environment: Mapping[str, str]) -> Path:
    """Return the file's path, following the XDG base directory specification."""
    base = environment.get("XDG_CONFIG_HOME", "")
    directory = Path(base) if Path(base).is_absolute() else Path.home() / ".config"
    return directory / "kernex" / "credentials.toml"


def server_url(text: str) -> str:
    """Return `text` as a server's URL, without a trailing slash. Raises `BadUsage`.

    If the scheme is missing, it is `http://` for this machine and `https://` for all others.
    """
    if "://" not in text:
        host = urlsplit(f"//{text}").hostname
        text = f"{'http' if host in LOOPBACK else 'https'}://{text}"
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise BadUsage(f"{text!r} is not a server's URL: write one such as https://fleet.example.com.")
    return text.rstrip("/")


def check_token(token: str) -> str:
    """Return `token` without surrounding whitespace. Raises `BadUsage` if it cannot be an API token."""
    token = token.strip()
    if token.startswith("kxe_"):
        raise BadUsage("That is an enrolment token, which is for devices: give an API token (kxa_…).")
    if not token.isascii() or not token.isprintable() or not token.startswith("kxa_") or " " in token:
        raise BadUsage(
            "That is not an API token. An API token begins with kxa_; the admin shows it once, when you create it."
        )
    return token


def load(environment: Mapping[str, str], server: str | None = None) -> Credentials:
    """Return the credentials for `server`, or for the server that the user logged in to. Raises `NotAllowed`."""
    stored = read(location(environment))
    chosen = server or environment.get("KERNEX_SERVER")
    url = server_url(chosen) if chosen else (stored.server if stored else None)
    if url is None:
        raise NotAllowed("Not logged in: run `kernex login SERVER`, or set KERNEX_SERVER and KERNEX_TOKEN.")
    if environment.get("KERNEX_TOKEN"):
        return Credentials(url, check_token(environment["KERNEX_TOKEN"]))
    if stored is None or stored.server != url:
        raise NotAllowed(f"Not logged in to {url}: run `kernex login {url}`, or set KERNEX_TOKEN.")
    return stored


def read(path: Path) -> Credentials | None:
    """Return the stored credentials, or None if there is no file. Raises `LocalProblem` if it is damaged."""
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise LocalProblem(f"{path} cannot be read ({error}): run `kernex login` again.") from None
    server, token = document.get("server"), document.get("token")
    if not isinstance(server, str) or not isinstance(token, str):
        raise LocalProblem(f"{path} must contain `server` and `token`: run `kernex login` again.")
    return Credentials(server, token)


def write(path: Path, credentials: Credentials) -> None:
    """Replace the file atomically, readable only by its owner. Raises `LocalProblem`."""
    text = f"server = {json.dumps(credentials.server)}\ntoken = {json.dumps(credentials.token)}\n"
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".credentials-")  # created with mode 0600
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            with suppress(FileNotFoundError):
                Path(name).unlink()
            raise
    except OSError as error:
        raise LocalProblem(f"{path} cannot be written: {error.strerror}.") from None


def forget(path: Path) -> bool:
    """Remove the file. Return False if there was none."""
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise LocalProblem(f"{path} cannot be removed: {error.strerror}.") from None
    return True
