"""The parts of a manifest: a file, a hook, the run command and the health check."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class File:
    path: str
    sha256: str
    size: int
    mode: int


@dataclass(frozen=True, slots=True)
class Hook:
    command: tuple[str, ...]
    timeout_seconds: int


@dataclass(frozen=True, slots=True)
class Run:
    command: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class HealthURL:
    """The URL on the device itself that a health check requests. `path` may have a query."""

    port: int
    path: str

    def __str__(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.path}"


@dataclass(frozen=True, slots=True)
class Health:
    """The health check. Exactly one of `command`, `file` and `http` is set."""

    timeout_seconds: int
    command: tuple[str, ...] = ()
    interval_seconds: int = 2
    file: str = ""
    http: HealthURL | None = None
