"""The agent's options: from the command line's file (`--config`) and from the environment, which wins."""

import os
import shutil
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agent.errors import BadConfig

PREFIX = "KERNEX_AGENT_"
LOOPBACK = {"127.0.0.1", "::1", "localhost"}


@dataclass(frozen=True, slots=True)
class Config:
    """Each field is an option: `[agent] NAME` in the file, KERNEX_AGENT_NAME in the environment."""

    server: str = ""  # the control plane's address, https://…
    token: str = ""  # the enrolment token, needed once
    token_file: str = ""  # or the file that holds it
    state_dir: str = "/var/lib/kernex-agent"
    device_type: str = "generic"
    name: str = ""  # how operators see the device at first
    python: str = sys.executable  # what `python3` in a bundle's commands resolves to
    insecure_http: bool = False  # plain http to a host that is not this machine
    log_format: str = "text"  # text or json
    log_level: str = "info"  # debug, info, warning or error
    connect_timeout_seconds: float = 10.0
    read_timeout_seconds: float = 30.0
    stop_grace_seconds: float = 10.0  # between SIGTERM and SIGKILL of a bundle's program
    bake_seconds: float = 60.0  # how long after the commit a crash loop still means rollback
    crash_limit: int = 5  # ends of the program within the bake time that make a crash loop
    free_space_margin: int = 64 * 1024 * 1024  # bytes that a deployment leaves free
    max_retry_seconds: float = 300.0  # longest pause between two tries of the same request

    @property
    def directory(self) -> Path:
        return Path(self.state_dir)

    @property
    def enrolment_token(self) -> str:
        """The token, also from its file. Raises `BadConfig` if the file cannot be read."""
        if not self.token_file:
            return self.token
        try:
            return Path(self.token_file).read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadConfig(f"token_file is {self.token_file}, which cannot be read: {error}.") from error

    def program(self, name: str) -> str:
        """The path of a program that a bundle's command names. Raises `FileNotFoundError`."""
        found = self.python if name == "python3" else shutil.which(name)
        if not found:
            raise FileNotFoundError(f"there is no program {name!r} on this device")
        return found


def load(path: str | None, environment: Mapping[str, str] = os.environ, **flags: object) -> Config:
    """Read file, environment and command-line flags, in rising order. Raises `BadConfig` with a sentence."""
    values: dict[str, Any] = {}
    for name, raw in {**_from_file(path), **_from_environment(environment), **flags}.items():
        values[name] = _typed(name, raw)
    config = Config(**values)
    _check(config)
    return config


def _from_file(path: str | None) -> dict[str, object]:
    if path is None:
        return {}
    try:
        with Path(path).open("rb") as file:
            table = tomllib.load(file).get("agent", {})
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise BadConfig(f"The configuration {path} cannot be read: {error}.") from error
    if not isinstance(table, dict):
        raise BadConfig(f"The configuration {path} has no table [agent].")
    unknown = sorted(table.keys() - {field.name for field in fields(Config)})
    if unknown:
        raise BadConfig(f"The configuration {path} has an unknown option {unknown[0]!r}: docs/agent.md lists them.")
    return table


def _from_environment(environment: Mapping[str, str]) -> dict[str, object]:
    names = {f"{PREFIX}{field.name.upper()}": field.name for field in fields(Config)}
    return {names[variable]: value for variable, value in environment.items() if variable in names and value != ""}


def _typed(name: str, raw: object) -> object:
    default = Config.__dataclass_fields__[name].default
    if isinstance(default, bool):
        if isinstance(raw, bool):
            return raw
        if str(raw).lower() in {"1", "true", "yes", "on", "0", "false", "no", "off"}:
            return str(raw).lower() in {"1", "true", "yes", "on"}
        raise BadConfig(f"{name} is {raw!r}: it accepts true or false.")
    if isinstance(default, int | float):
        try:
            number = type(default)(str(raw))
        except ValueError:
            raise BadConfig(f"{name} is {raw!r}: it accepts a number.") from None
        if not 0 <= number < 10**15:
            raise BadConfig(f"{name} is {raw!r}: it accepts a number that is not negative.")
        return number
    return str(raw)


def _check(config: Config) -> None:
    if config.log_format not in {"text", "json"}:
        raise BadConfig(f"log_format is {config.log_format!r}: it accepts text or json.")
    if config.log_level not in {"debug", "info", "warning", "error"}:
        raise BadConfig(f"log_level is {config.log_level!r}: it accepts debug, info, warning or error.")
    if not config.server:
        return
    url = urlsplit(config.server)
    if url.scheme not in {"http", "https"} or not url.hostname or url.username or url.query:
        raise BadConfig(f"server is {config.server!r}: it accepts an address such as https://fleet.example.com.")
    if url.scheme == "http" and url.hostname not in LOOPBACK and not config.insecure_http:
        raise BadConfig(f"server is {config.server!r}: without https only this machine, or with insecure_http = true.")
