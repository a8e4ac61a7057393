"""Manifests: the files of a bundle, its requirements, and how a device runs and checks it.

A manifest is canonical JSON: UTF-8, keys sorted, separators `,` and `:`, only necessary escapes, no trailing
newline. Devices request it by the sha256 of exactly those bytes. Omitted fields stay omitted.
Unknown fields are refused: a misspelt `health` must not mean "no health check".
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from bundles.errors import BadBundle
from bundles.identifiers import NAME_PATTERN, is_name, is_sha256
from bundles.paths import check_path, check_together
from foundation.api.parsers import parse_json
from foundation.errors import BadRequest

SCHEMA = 1
MAX_MANIFEST_SIZE = 4 * 1024 * 1024
MAX_FILES = 10_000
MAX_NUMBER = 2**53 - 1  # the largest integer that every JSON parser keeps exact
MAX_SECONDS = 86_400
MAX_DEVICE_TYPES = 100
MAX_PORT = 65_535
MAX_URL_PATH_LENGTH = 1024
MAX_STRINGS = 256
MAX_STRING_SIZE = 4096
REGULAR_MODE, EXECUTABLE_MODE = 0o644, 0o755

# The characters of a URL's path and query (RFC 3986). A percent sign begins an escape.
_URL_PATH = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*")
_VARIABLE = re.compile(r"(?!KERNEX_)[A-Za-z_][A-Za-z0-9_]{0,127}")


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
    """The URL on the device itself, without scheme and host, that a health check requests."""

    port: int
    path: str


@dataclass(frozen=True, slots=True)
class Health:
    """Exactly one of `command`, `file` and `http` is set."""

    timeout_seconds: int
    command: tuple[str, ...] = ()
    interval_seconds: int = 2
    file: str = ""
    http: HealthURL | None = None


@dataclass(frozen=True)
class Manifest:
    """One valid manifest. `body` is its canonical JSON; sizes are bytes."""

    body: bytes
    name: str
    version: str
    release_counter: int
    device_types: tuple[str, ...]
    memory: int
    disk: int
    files: tuple[File, ...]
    hooks: Mapping[str, Hook]
    run: Run | None
    health: Health | None

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.body).hexdigest()

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def label(self) -> str:
        return f"{self.name}@{self.version}"


def canonical(value: object) -> bytes:
    """Return `value` as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def parse(body: bytes) -> Manifest:
    """Return the manifest in `body`, which must be canonical JSON to the byte. Raises `BadBundle`."""
    if len(body) > MAX_MANIFEST_SIZE:
        raise BadBundle("manifest_too_large", f"The manifest is larger than {MAX_MANIFEST_SIZE} bytes.")
    try:
        value = parse_json(body)
    except BadRequest as error:
        raise BadBundle("not_json", error.message) from None
    manifest = read(value)
    if manifest.body != body:
        raise BadBundle(
            "not_canonical", "The manifest is not canonical JSON: sort its keys and remove whitespace between tokens."
        )
    return manifest


def read(value: object) -> Manifest:
    """Return the manifest that a JSON value describes. Raises `BadBundle` with the code of the first broken rule."""
    optional = {"release_counter", "device_types", "requires", "hooks", "run", "health"}
    fields = _fields(value, "manifest", {"schema", "name", "version", "files"}, optional)
    if fields["schema"] != SCHEMA or isinstance(fields["schema"], bool | float):
        raise BadBundle("bad_schema", f"`schema` must be {SCHEMA}: this version of Kernex supports no other schema.")
    requires = _fields(fields.get("requires", {}), "requires", set(), {"memory", "disk"})
    files = _files(fields["files"])
    executables = {file.path: file.mode == EXECUTABLE_MODE for file in files}
    hooks = _fields(fields.get("hooks", {}), "hooks", set(), {"pre_install", "post_install"})
    run = _run(fields["run"], executables) if "run" in fields else None
    manifest = Manifest(
        name=_name(fields["name"], "bad_name", "`name`"),
        version=_name(fields["version"], "bad_version", "`version`"),
        release_counter=_integer(fields.get("release_counter", 0), "bad_release_counter", "`release_counter`"),
        device_types=_device_types(fields.get("device_types", [])),
        memory=_integer(requires.get("memory", 0), "bad_requires", "`requires.memory`"),
        disk=_integer(requires.get("disk", 0), "bad_requires", "`requires.disk`"),
        files=files,
        hooks={name: _hook(hook, name, executables) for name, hook in hooks.items()},
        run=run,
        health=_health(fields["health"], executables, run) if "health" in fields else None,
        body=canonical(value),
    )
    if len(manifest.body) > MAX_MANIFEST_SIZE:
        raise BadBundle("manifest_too_large", f"The manifest is larger than {MAX_MANIFEST_SIZE} bytes.")
    return manifest


def _fields(value: object, field: str, required: set[str], optional: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadBundle("bad_member", f"`{field}` must be an object.")
    if missing := sorted(required - value.keys()):
        raise BadBundle("missing_member", f"`{field}` must have `{missing[0]}`.")
    if unknown := sorted(value.keys() - required - optional):
        raise BadBundle("unknown_member", f"`{field}` has an unknown field {unknown[0][:80]!a}.")
    return value


def _integer(value: object, code: str, field: str, minimum: int = 0, maximum: int = MAX_NUMBER) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
        raise BadBundle(code, f"{field} must be an integer from {minimum} to {maximum}.")
    return value


def _name(value: object, code: str, field: str) -> str:
    if not isinstance(value, str) or not is_name(value):
        raise BadBundle(code, f"{field} must match {NAME_PATTERN}.")
    return value


def _device_types(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_DEVICE_TYPES:
        raise BadBundle("bad_device_types", f"`device_types` must be a list of at most {MAX_DEVICE_TYPES} names.")
    types = tuple(_name(item, "bad_device_types", "A device type") for item in value)
    if len(set(types)) != len(types):
        raise BadBundle("bad_device_types", "`device_types` lists a type more than once.")
    return types


def _files(value: object) -> tuple[File, ...]:
    if not isinstance(value, list) or not value:
        raise BadBundle("bad_files", "`files` must be a list with at least one file.")
    if len(value) > MAX_FILES:
        raise BadBundle("too_many_files", f"`files` has {len(value)} entries; at most {MAX_FILES} are allowed.")
    files = tuple(_file(item) for item in value)
    paths = [file.path for file in files]
    check_together(paths)
    if paths != sorted(paths):
        raise BadBundle("files_not_sorted", "`files` must be sorted by path (by code point).")
    if sum(file.size for file in files) > MAX_NUMBER:
        raise BadBundle("bundle_too_large", f"The files together are larger than {MAX_NUMBER} bytes.")
    sizes: dict[str, int] = {}
    for file in files:
        if sizes.setdefault(file.sha256, file.size) != file.size:
            raise BadBundle("size_differs", f"The sha256 {file.sha256} is listed with two sizes.")
    return files


def _file(value: object) -> File:
    fields = _fields(value, "files[]", {"path", "sha256", "size", "mode"}, set())
    path = check_path(fields["path"])
    sha256, mode = fields["sha256"], fields["mode"]
    if not is_sha256(sha256):
        raise BadBundle("bad_sha256", f"The sha256 of {path!a} must be 64 lowercase hexadecimal digits.")
    size = _integer(fields["size"], "bad_size", f"The size of {path!a}")
    if _integer(mode, "bad_mode", f"The mode of {path!a}") not in {REGULAR_MODE, EXECUTABLE_MODE}:
        raise BadBundle("bad_mode", f"The mode of {path!a} must be 420 (0644) or 493 (0755).")
    return File(path, sha256, size, mode)


def _hook(value: object, name: str, executables: Mapping[str, bool]) -> Hook:
    fields = _fields(value, f"hooks.{name}", {"command", "timeout_seconds"}, set())
    return Hook(_command(fields["command"], executables), _timeout(fields["timeout_seconds"]))


def _timeout(value: object) -> int:
    return _integer(value, "bad_timeout", "`timeout_seconds`", 1, MAX_SECONDS)


def _run(value: object, executables: Mapping[str, bool]) -> Run:
    fields = _fields(value, "run", {"command"}, {"environment"})
    environment = fields.get("environment", {})
    if not isinstance(environment, dict) or len(environment) > MAX_STRINGS:
        raise BadBundle("bad_environment", f"`run.environment` must be an object of at most {MAX_STRINGS} variables.")
    for variable, text in environment.items():
        if not _VARIABLE.fullmatch(variable) or not _is_valid_string(text):
            raise BadBundle(
                "bad_environment",
                f"The variable {variable[:80]!a} must be a name of letters, digits and `_` without the prefix KERNEX_, "
                f"and its value a string of at most {MAX_STRING_SIZE} bytes.",
            )
    return Run(_command(fields["command"], executables), environment)


def _health(value: object, executables: Mapping[str, bool], run: Run | None) -> Health:
    fields = _fields(value, "health", {"timeout_seconds"}, {"command", "file", "http", "interval_seconds"})
    timeout = _timeout(fields["timeout_seconds"])
    if len({"command", "file", "http"} & fields.keys()) != 1:
        raise BadBundle("bad_health", "`health` must have exactly one of `command`, `file` and `http`.")
    if "file" in fields:
        if run is None or "interval_seconds" in fields:
            raise BadBundle("bad_health", "`health.file` requires `run` and must not have `interval_seconds`.")
        return Health(timeout, file=check_path(fields["file"]))
    interval = _integer(fields.get("interval_seconds", 2), "bad_interval", "`interval_seconds`", 1, MAX_SECONDS)
    if "command" in fields:
        return Health(timeout, command=_command(fields["command"], executables), interval_seconds=interval)
    if run is None:
        raise BadBundle("bad_health", "`health.http` requires `run`.")
    return Health(timeout, http=_health_url(fields["http"]), interval_seconds=interval)


def _health_url(value: object) -> HealthURL:
    fields = _fields(value, "health.http", {"port", "path"}, set())
    port = _integer(fields["port"], "bad_health", "`health.http.port`", 1, MAX_PORT)
    path = fields["path"]
    if not isinstance(path, str) or len(path) > MAX_URL_PATH_LENGTH or not _URL_PATH.fullmatch(path):
        raise BadBundle("bad_health", "`health.http.path` must be the path of a URL and begin with `/`.")
    return HealthURL(port, path)


def _command(value: object, executables: Mapping[str, bool]) -> tuple[str, ...]:
    """Check an argument list: its program is a file of the bundle (`./…`) or a name that the device looks up."""
    if (
        not isinstance(value, list)
        or not 1 <= len(value) <= MAX_STRINGS
        or not all(_is_valid_string(item) for item in value)
    ):
        raise BadBundle(
            "bad_command", f"A command must be a list of 1 to {MAX_STRINGS} strings of up to {MAX_STRING_SIZE} bytes."
        )
    program: str = value[0]
    if program.startswith("./"):
        if program[2:] not in executables:
            raise BadBundle("command_not_listed", f"The command {program[:200]!a} is not a file of this bundle.")
        if not executables[program[2:]]:
            raise BadBundle("command_not_executable", f"The command {program[:200]!a} must have the mode 493 (0755).")
    elif not program or "/" in program:
        raise BadBundle(
            "bad_command",
            "The program of a command must be `./` followed by a file of the bundle, or a name without a slash.",
        )
    return tuple(value)


def _is_valid_string(value: object) -> bool:
    if not isinstance(value, str) or "\x00" in value:
        return False
    try:
        return len(value.encode("utf-8")) <= MAX_STRING_SIZE
    except UnicodeEncodeError:
        return False
