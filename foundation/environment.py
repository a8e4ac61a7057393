"""The typed reader of environment variables, from which every setting comes.

Each method accepts the name of a variable and its default. It returns a value of the promised type, or raises
`BadSetting` with a sentence that names the variable and its valid values. Instead of `NAME`, `NAME_FILE` may be set
to the path of a file that contains the value: orchestrators mount secrets as files.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit


class BadSetting(SystemExit):
    """A variable has an invalid value. As a `SystemExit`, it terminates the process with its message."""


TRUE = frozenset({"1", "true", "yes", "on"})
FALSE = frozenset({"0", "false", "no", "off"})


class Environment:
    """The environment variables of this process. The settings module reads each one once."""

    def __init__(self, variables: Mapping[str, str] = os.environ) -> None:
        self.variables = variables

    def text(self, name: str, default: str = "") -> str:
        """Return the value of `name`, or of the file that `name`_FILE points to, without surrounding whitespace."""
        path = self.variables.get(f"{name}_FILE")
        if not path:
            return self.variables.get(name, default).strip()
        if name in self.variables:
            raise BadSetting(f"{name} and {name}_FILE are both set: keep one of them.")
        try:
            return Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise BadSetting(f"{name}_FILE points to {path}, which cannot be read: {error}.") from error

    def flag(self, name: str, default: bool) -> bool:
        """Return a boolean."""
        value = self.text(name).lower()
        if not value:
            return default
        if value in TRUE or value in FALSE:
            return value in TRUE
        raise BadSetting(f"{name} is {value!r}: it must be true or false.")

    def number(self, name: str, default: int, *, minimum: int, maximum: int) -> int:
        """Return an integer from `minimum` to `maximum`."""
        value = self.text(name)
        if not value:
            return default
        if not value.isascii() or not value.isdigit() or not minimum <= int(value) <= maximum:
            raise BadSetting(f"{name} is {value!r}: it must be an integer from {minimum} to {maximum}.")
        return int(value)

    def choice(self, name: str, default: str, choices: Sequence[str]) -> str:
        """Return one of `choices`."""
        value = self.text(name) or default
        if value not in choices:
            raise BadSetting(f"{name} is {value!r}: it must be one of {', '.join(choices)}.")
        return value

    def entries(self, name: str, default: Sequence[str] = ()) -> list[str]:
        """Return the non-empty entries of a comma-separated list."""
        return [entry.strip() for entry in self.text(name).split(",") if entry.strip()] or list(default)

    def database(self, name: str, default: str = "") -> dict[str, Any]:
        """Return a PostgreSQL URL as an entry of Django's `DATABASES`. Its query becomes libpq options."""
        value = self.text(name, default)
        if not value:
            raise BadSetting(
                f"{name} is not set: it must be postgresql://USER:PASSWORD@HOST:PORT/DATABASE. "
                "On a laptop, `make run` starts PostgreSQL and sets it."
            )
        try:
            url = urlsplit(value)
            host, port, query = url.hostname, url.port, parse_qsl(url.query, strict_parsing=bool(url.query))
        except ValueError as error:
            # The URL contains a password, so the message does not repeat it.
            message = f"{name} is not a URL ({type(error).__name__}): percent-encode special characters."
            raise BadSetting(message) from None
        if url.scheme not in {"postgres", "postgresql"}:
            raise BadSetting(
                f"{name} begins with {url.scheme or 'no scheme'!r}: it must begin with postgresql:// or postgres://, "
                "without a driver name such as +asyncpg."
            )
        if not host or not url.path.strip("/") or not url.username:
            raise BadSetting(
                f"{name} must have a user, a host and a database: postgresql://USER:PASSWORD@HOST:PORT/DATABASE."
            )
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": unquote(url.path.lstrip("/")),
            "USER": unquote(url.username),
            "PASSWORD": unquote(url.password or ""),
            "HOST": host,
            "PORT": str(port or 5432),
            "OPTIONS": dict(query),
        }
