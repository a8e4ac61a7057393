"""Manifests: the files of a release, and how this device runs and checks it.

A manifest must be canonical JSON and follow all rules in docs/bundles.md. A manifest that breaks a rule is refused
before anything else is downloaded. tests/contract/manifests.json has examples.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from agent.manifest_parts import File, Health, HealthURL, Hook, Run
from agent.paths import BadManifest, check_path, check_tree

SCHEMA = 1
MAX_SIZE = 4 * 1024 * 1024
MAX_DEPTH = 32
MAX_FILES = 10_000
MAX_NUMBER = 2**53 - 1
MAX_SECONDS = 86_400
MAX_DEVICE_TYPES = 100
MAX_PORT = 65_535
MAX_URL_PATH_LENGTH = 1024
MAX_ARGUMENTS = 256
MAX_ARGUMENT_SIZE = 4096
REGULAR_MODE, EXECUTABLE_MODE = 0o644, 0o755

NAME = re.compile(r"[a-z0-9][a-z0-9._+-]{0,62}")
SHA256 = re.compile(r"[0-9a-f]{64}")
# The characters of a URL's path and query (RFC 3986). A percent sign begins an escape.
_URL_PATH = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*")
_VARIABLE = re.compile(r"(?!KERNEX_)[A-Za-z_][A-Za-z0-9_]{0,127}")
_HEALTH_CHECKS = {"command", "file", "http"}

Modes = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Manifest:
    """A valid manifest. Sizes are in bytes. If `device_types` is empty, the bundle is for all devices."""

    name: str
    version: str
    device_types: tuple[str, ...]
    memory: int
    disk: int
    files: tuple[File, ...]
    pre_install: Hook | None
    post_install: Hook | None
    run: Run | None
    health: Health | None

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def parse(body: bytes) -> Manifest:
    """Return the manifest in `body`. Raises `BadManifest` with the code of the first rule that it breaks."""
    if len(body) > MAX_SIZE:
        raise BadManifest("manifest_too_large", f"The manifest is larger than {MAX_SIZE} bytes.")
    value = _json(body)
    if not isinstance(value, dict):
        raise BadManifest("bad_member", "The manifest must be an object.")
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    if canonical != body:
        raise BadManifest("not_canonical", "The manifest must be canonical JSON.")
    return _manifest(value)


def _json(body: bytes) -> Any:
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_unique)
        _check_values(value, 1)
    except RecursionError:
        raise BadManifest("not_json", "The manifest is nested too deeply.") from None
    except ValueError as error:
        raise BadManifest("not_json", f"The manifest is not valid JSON: {str(error)[:200]}.") from None
    return value


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a number")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a key appears more than once")
    return members


def _check_values(value: Any, depth: int) -> None:
    """Raise `ValueError` for deep nesting, infinite numbers and lone surrogates, which other JSON readers reject."""
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    if isinstance(value, str):
        value.encode("utf-8")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number is out of range")
    elif isinstance(value, list):
        for item in value:
            _check_values(item, depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            key.encode("utf-8")
            _check_values(item, depth + 1)


def _manifest(value: object) -> Manifest:
    optional = {"release_counter", "device_types", "requires", "hooks", "run", "health"}
    members = _members(value, "manifest", {"schema", "name", "version", "files"}, optional)
    if type(members["schema"]) is not int or members["schema"] != SCHEMA:
        raise BadManifest("bad_schema", f"The manifest's schema must be {SCHEMA}.")
    _integer(members.get("release_counter", 0), "bad_release_counter", "release_counter")
    requires = _members(members.get("requires", {}), "requires", set(), {"memory", "disk"})
    files = _files(members["files"])
    modes = {file.path: file.mode for file in files}
    hooks = _members(members.get("hooks", {}), "hooks", set(), {"pre_install", "post_install"})
    run = _run(members["run"], modes) if "run" in members else None
    return Manifest(
        name=_name(members["name"], "bad_name"),
        version=_name(members["version"], "bad_version"),
        device_types=_device_types(members.get("device_types", [])),
        memory=_integer(requires.get("memory", 0), "bad_requires", "requires.memory"),
        disk=_integer(requires.get("disk", 0), "bad_requires", "requires.disk"),
        files=files,
        pre_install=_hook(hooks["pre_install"], modes) if "pre_install" in hooks else None,
        post_install=_hook(hooks["post_install"], modes) if "post_install" in hooks else None,
        run=run,
        health=_health(members["health"], modes, run) if "health" in members else None,
    )


def _members(value: object, field: str, required: set[str], optional: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadManifest("bad_member", f"`{field}` must be an object.")
    for name in sorted(required - value.keys()):
        raise BadManifest("missing_member", f"`{field}` must have the field `{name}`.")
    for name in sorted(value.keys() - required - optional):
        raise BadManifest("unknown_member", f"`{field}` has an unknown field {name[:80]!a}.")
    return value


def _integer(value: object, code: str, field: str, minimum: int = 0, maximum: int = MAX_NUMBER) -> int:
    if type(value) is not int or not minimum <= value <= maximum:
        raise BadManifest(code, f"`{field}` must be an integer from {minimum} to {maximum}.")
    return value


def _name(value: object, code: str) -> str:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise BadManifest(code, f"Names, versions and device types must match {NAME.pattern}.")
    return value


def _device_types(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_DEVICE_TYPES:
        raise BadManifest("bad_device_types", f"`device_types` must be a list of at most {MAX_DEVICE_TYPES} names.")
    types = tuple(_name(item, "bad_device_types") for item in value)
    if len(set(types)) != len(types):
        raise BadManifest("bad_device_types", "`device_types` must not contain a type more than once.")
    return types


def _files(value: object) -> tuple[File, ...]:
    if not isinstance(value, list) or not value:
        raise BadManifest("bad_files", "`files` must be a list with at least one file.")
    if len(value) > MAX_FILES:
        raise BadManifest("too_many_files", f"`files` must have at most {MAX_FILES} entries.")
    files = tuple(_file(item) for item in value)
    paths = [file.path for file in files]
    check_tree(paths)
    if paths != sorted(paths):
        raise BadManifest("files_not_sorted", "`files` must be sorted by path.")
    if sum(file.size for file in files) > MAX_NUMBER:
        raise BadManifest("bundle_too_large", f"The total size of the files must be at most {MAX_NUMBER} bytes.")
    if len({file.sha256 for file in files}) != len({(file.sha256, file.size) for file in files}):
        raise BadManifest("size_differs", "Files with the same sha256 must have the same size.")
    return files


def _file(value: object) -> File:
    members = _members(value, "files[]", {"path", "sha256", "size", "mode"}, set())
    path, sha256 = check_path(members["path"]), members["sha256"]
    if not isinstance(sha256, str) or not SHA256.fullmatch(sha256):
        raise BadManifest("bad_sha256", f"The sha256 of {path!a} must be 64 lower-case hexadecimal digits.")
    size = _integer(members["size"], "bad_size", "size")
    mode = _integer(members["mode"], "bad_mode", "mode")
    if mode not in {REGULAR_MODE, EXECUTABLE_MODE}:
        raise BadManifest("bad_mode", f"The mode of {path!a} must be 420 or 493.")
    return File(path, sha256, size, mode)


def _hook(value: object, modes: Modes) -> Hook:
    members = _members(value, "hook", {"command", "timeout_seconds"}, set())
    return Hook(_command(members["command"], modes), _timeout(members["timeout_seconds"]))


def _timeout(value: object) -> int:
    return _integer(value, "bad_timeout", "timeout_seconds", 1, MAX_SECONDS)


def _run(value: object, modes: Modes) -> Run:
    members = _members(value, "run", {"command"}, {"environment"})
    environment = members.get("environment", {})
    if not isinstance(environment, dict) or len(environment) > MAX_ARGUMENTS:
        raise BadManifest(
            "bad_environment", f"`run.environment` must be an object of at most {MAX_ARGUMENTS} variables."
        )
    for variable, text in environment.items():
        if not _VARIABLE.fullmatch(variable) or not _is_argument(text):
            raise BadManifest("bad_environment", f"The variable {variable[:80]!a} has an invalid name or value.")
    return Run(_command(members["command"], modes), environment)


def _health(value: object, modes: Modes, run: Run | None) -> Health:
    members = _members(value, "health", {"timeout_seconds"}, {*_HEALTH_CHECKS, "interval_seconds"})
    timeout = _timeout(members["timeout_seconds"])
    if len(_HEALTH_CHECKS & members.keys()) != 1:
        raise BadManifest("bad_health", "`health` must have exactly one of `command`, `file` and `http`.")
    if "file" in members:
        if run is None or "interval_seconds" in members:
            raise BadManifest("bad_health", "`health.file` requires `run` and must not have `interval_seconds`.")
        return Health(timeout, file=check_path(members["file"]))
    interval = _integer(members.get("interval_seconds", 2), "bad_interval", "interval_seconds", 1, MAX_SECONDS)
    if "command" in members:
        return Health(timeout, command=_command(members["command"], modes), interval_seconds=interval)
    if run is None:
        raise BadManifest("bad_health", "`health.http` requires `run`.")
    return Health(timeout, http=_health_url(members["http"]), interval_seconds=interval)


def _health_url(value: object) -> HealthURL:
    members = _members(value, "health.http", {"port", "path"}, set())
    port = _integer(members["port"], "bad_health", "health.http.port", 1, MAX_PORT)
    path = members["path"]
    if not isinstance(path, str) or len(path) > MAX_URL_PATH_LENGTH or not _URL_PATH.fullmatch(path):
        raise BadManifest("bad_health", "`health.http.path` must be the path of a URL and begin with `/`.")
    return HealthURL(port, path)


def _command(value: object, modes: Modes) -> tuple[str, ...]:
    if (
        not isinstance(value, list)
        or not 1 <= len(value) <= MAX_ARGUMENTS
        or not all(_is_argument(argument) for argument in value)
    ):
        raise BadManifest("bad_command", f"A command must be a list of 1 to {MAX_ARGUMENTS} strings.")
    program = value[0]
    if program.startswith("./"):
        mode = modes.get(program[2:])
        if mode is None:
            raise BadManifest("command_not_listed", f"The command {program[:200]!a} must be a file of the bundle.")
        if mode != EXECUTABLE_MODE:
            raise BadManifest("command_not_executable", f"The command {program[:200]!a} must be executable.")
    elif not program or "/" in program:
        raise BadManifest(
            "bad_command", "A command must start with `./` and a file of the bundle, or with a name on PATH."
        )
    return tuple(value)


def _is_argument(value: object) -> bool:
    return isinstance(value, str) and "\x00" not in value and len(value.encode("utf-8")) <= MAX_ARGUMENT_SIZE
