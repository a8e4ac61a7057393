"""Every option of the agent, in one frozen dataclass.

Each option is read from the command line (`--state-dir`; not for secrets), the environment (`KERNEX_AGENT_STATE_DIR`)
and the TOML file (`state_dir = "…"`), in this order of precedence. docs/agent.md lists all options.
"""

import os
import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agent.errors import BadConfiguration

DEFAULT_FILE = Path("/etc/kernex-agent/agent.toml")
PREFIX = "KERNEX_AGENT_"
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
LOG_FORMATS = {"text", "json"}
LOG_LEVELS = {"debug", "info", "warning", "error"}
MAX_TOKEN_FILE_SIZE = 4096

_LABEL = re.compile(r"[a-z0-9][a-z0-9._+-]{0,62}")
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


def option(default: Any, description: str, unit: str = "", *, minimum: int = 0, secret: bool = False) -> Any:
    """Declare an option with its description, unit and minimum.

    Secrets cannot be set on the command line, because every user of a machine can read argument lists.
    """
    metadata = {"description": description, "unit": unit, "minimum": minimum, "is_secret": secret}
    return field(default=default, repr=not secret, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Config:
    """The configuration of the agent. Sizes are bytes, durations seconds."""

    server: str = option(
        "",
        "URL of the control plane, such as https://kernex.example.com. Defaults to the server where the device is"
        " enrolled.",
        "URL",
    )
    token: str = option("", "Enrolment token. Required until the device is enrolled.", secret=True)
    token_file: str = option("", "File that contains the enrolment token; `-` reads standard input.", "path")
    state_dir: Path = option(  # noqa: RUF009 - `option` is `field` with our metadata
        Path("/var/lib/kernex-agent"), "Directory for the key, the journal and all releases.", "path"
    )
    device_type: str = option("generic", "Type of this device. A bundle can require certain types.")
    name: str = option("", "Display name, sent when the device enrols. Defaults to the host name.")
    python: str = option(
        "python3", "Interpreter for `python3` in a bundle's commands: a name on PATH, or a path.", "path"
    )
    log_format: str = option("text", "Format of log lines: `text` or `json`.")
    log_level: str = option("info", "Minimum log level: `debug`, `info`, `warning` or `error`.")
    insecure_http: bool = option(False, "Allow a server without TLS even if it is not on this machine.")
    ca_file: str = option("", "File of certificate authorities to trust instead of the default ones.", "path")
    proxy: str = option("", "HTTP proxy. The proxy variables of the environment are ignored.", "URL")
    connect_timeout_seconds: int = option(10, "Maximum time to connect.", "seconds", minimum=1)
    read_timeout_seconds: int = option(30, "Maximum time without data from the server.", "seconds", minimum=1)
    answer_timeout_seconds: int = option(
        120, "Maximum time for a complete response, except downloads.", "seconds", minimum=1
    )
    backoff_seconds: int = option(
        5, "First delay after a failure. Each further delay doubles, with jitter.", "seconds", minimum=1
    )
    backoff_limit_seconds: int = option(300, "Maximum delay after a failure.", "seconds", minimum=1)
    blob_tries: int = option(
        3,
        "Maximum number of attempts to download a file that is missing on the server or has wrong content.",
        minimum=1,
    )
    disk_margin: int = option(64 * 1024 * 1024, "Disk space that an installation must leave free.", "bytes")
    progress_seconds: int = option(5, "Interval between progress reports of a download.", "seconds", minimum=1)
    settle_seconds: int = option(
        5, "Time after which a running program without a health check counts as healthy.", "seconds"
    )
    stop_grace_seconds: int = option(10, "Time for a program to stop before it is killed.", "seconds")
    bake_seconds: int = option(
        600,
        "The agent's observation time after an installation. A crash loop within it rolls the release back. "
        "It is independent of a deployment's `observation_seconds`.",
        "seconds",
    )
    crash_loop_starts: int = option(
        5, "Number of crashes that are tolerated in the observation time.", "starts", minimum=1
    )

    @property
    def host(self) -> str:
        return urlsplit(self.server).hostname or ""


OPTIONS: dict[str, Field[Any]] = {option_field.name: option_field for option_field in fields(Config)}


def load(
    arguments: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Config:
    """Return the configuration of this process.

    `arguments` are the options of the command line, with None for each one that is not set. If `file` is given, it must
    exist.

    Raises:
        BadConfiguration: An option or the file is invalid; the message names it.
    """
    values = _from_file(file)
    values |= _from_environment(os.environ if environment is None else environment)
    values |= {name: value for name, value in (arguments or {}).items() if value is not None}
    config = Config(**{name: _read(OPTIONS[name], value) for name, value in values.items()})
    _check(config)
    return config


def _from_file(file: Path | None) -> dict[str, Any]:
    path = file or DEFAULT_FILE
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        if file is None:
            return {}
        raise BadConfiguration(f"The configuration file {path} does not exist: check --config.") from None
    except OSError as error:
        raise BadConfiguration(f"The configuration file {path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise BadConfiguration(f"The configuration file {path} is not valid TOML: {error}.") from None
    unknown = sorted(values.keys() - OPTIONS.keys())
    if unknown:
        raise BadConfiguration(f"The configuration file {path} has an unknown option `{unknown[0]}`.")
    return values


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the options that are set. Empty values are treated as not set, because service managers pass them."""
    values = {name: environment.get(PREFIX + name.upper(), "") for name in OPTIONS}
    return {name: value for name, value in values.items() if value}


def _read(option_field: Field[Any], value: Any) -> Any:
    """Convert a TOML value or a string to the option's type."""
    if option_field.type is bool:
        return _bool(option_field.name, value)
    if option_field.type is int:
        return _integer(option_field.name, value, option_field.metadata["minimum"])
    if not isinstance(value, str | Path) or "\x00" in str(value):
        raise BadConfiguration(f"The option `{option_field.name}` must be a string.")
    return Path(value).absolute() if option_field.type is Path else str(value).strip()


def _bool(name: str, value: Any) -> bool:
    text = str(value).strip().lower()
    if text not in _TRUE | _FALSE:
        raise BadConfiguration(f"The option `{name}` is {value!r}; it must be true or false.")
    return text in _TRUE


def _integer(name: str, value: Any, minimum: int) -> int:
    text = str(value).strip()
    if isinstance(value, bool) or not text.isascii() or not text.isdecimal() or not minimum <= int(text) < 2**53:
        raise BadConfiguration(f"The option `{name}` is {value!r}; it must be an integer of at least {minimum}.")
    return int(text)


def _check(config: Config) -> None:
    for name, choices in (("log_format", LOG_FORMATS), ("log_level", LOG_LEVELS)):
        if getattr(config, name) not in choices:
            raise BadConfiguration(f"The option `{name}` must be one of: {', '.join(sorted(choices))}.")
    if not _LABEL.fullmatch(config.device_type):
        raise BadConfiguration(f"The option `device_type` must match {_LABEL.pattern}.")
    if len(config.name) > 100 or not config.name.isprintable():
        raise BadConfiguration("The option `name` must have at most 100 printable characters.")
    if config.server:
        _check_server(config)


def _check_server(config: Config) -> None:
    try:
        parts = urlsplit(config.server)
        port = parts.port
    except ValueError:
        raise BadConfiguration("The option `server` must be a valid URL.") from None
    is_origin = f"{parts.scheme}://{parts.netloc}" == config.server.rstrip("/").lower() and "@" not in parts.netloc
    if parts.scheme not in {"http", "https"} or not parts.hostname or not is_origin or port == 0:
        raise BadConfiguration("The option `server` must have the form https://host or https://host:port.")
    if parts.scheme == "http" and not config.insecure_http and parts.hostname not in LOOPBACK:
        raise BadConfiguration(
            "The option `server` must be an https URL: without TLS, an attacker could forge commands. Set"
            " `insecure_http` to allow it."
        )


def with_server(config: Config, server: str) -> Config:
    """Return a copy of the configuration with another server. Raises `BadConfiguration`."""
    changed = replace(config, server=server)
    _check_server(changed)
    return changed


def enrolment_token(config: Config) -> str:
    """Return the configured token, or an empty string. Raises `BadConfiguration` if its file cannot be read."""
    if config.token or not config.token_file:
        return config.token
    if config.token_file == "-":  # noqa: S105 - standard input
        return sys.stdin.readline(MAX_TOKEN_FILE_SIZE).strip()
    try:
        with Path(config.token_file).open(encoding="ascii") as file:
            return file.read(MAX_TOKEN_FILE_SIZE).strip()
    except (OSError, ValueError) as error:
        raise BadConfiguration(f"The token file {config.token_file} cannot be read: {error}.") from None
