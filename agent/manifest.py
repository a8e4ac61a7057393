"""Manifests, as a device reads them: strict, because what is not understood must not be installed.

The rules are those of docs/bundles.md and tests/contract/manifests.json; the server has its own reading of them.
"""

import hashlib
import json
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any, NoReturn

from agent.errors import Refused

MAX_SIZE = 4 * 1024 * 1024
MAX_FILES = 10_000
MAX_NUMBER = 2**53 - 1
MAX_DEPTH = 32
MAX_SECONDS = 86_400
MAX_WORDS = 256
MAX_WORD_SIZE = 4096
MODES = (0o644, 0o755)

NAME = re.compile(r"[a-z0-9][a-z0-9._+-]{0,62}")
SHA256 = re.compile(r"[0-9a-f]{64}")
VARIABLE = re.compile(r"(?!KERNEX_)[A-Za-z_][A-Za-z0-9_]{0,127}")


@dataclass(frozen=True, slots=True)
class File:
    path: str
    sha256: str
    size: int
    mode: int


@dataclass(frozen=True, slots=True)
class Hook:
    command: list[str]
    timeout_seconds: int


@dataclass(frozen=True, slots=True)
class Health:
    """Either `command`, asked every `interval_seconds`, or `file`, which the running program writes."""

    timeout_seconds: int
    command: list[str] = field(default_factory=list)
    interval_seconds: int = 2
    file: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """One valid manifest; sizes in bytes."""

    name: str
    version: str
    device_types: list[str]
    memory: int
    disk: int
    files: list[File]
    hooks: dict[str, Hook]
    run: list[str]
    environment: dict[str, str]
    health: Health | None
    sha256: str


def parse(body: bytes, sha256: str, name: str, version: str) -> Manifest:
    """The manifest in `body`, if it is the one that was asked for. Raises `Refused` (`bad_manifest`)."""
    if len(body) > MAX_SIZE or hashlib.sha256(body).hexdigest() != sha256:
        _refuse("it is not the manifest that the deployment names")
    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
        canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        _refuse(f"it is no JSON: {type(error).__name__}")
    if canonical != body:
        _refuse("it is not canonical JSON")
    manifest = read(value, sha256)
    if (manifest.name, manifest.version) != (name, version):
        _refuse("it has another name or version than the deployment")
    return manifest


def read(value: Any, sha256: str = "") -> Manifest:
    """The manifest that a JSON value describes. Raises `Refused` (`bad_manifest`)."""
    optional = {"release_counter", "device_types", "requires", "hooks", "run", "health"}
    body = _members(value, {"schema", "name", "version", "files"}, optional)
    if type(body["schema"]) is not int or body["schema"] != 1:
        _refuse("its schema is not 1")
    _whole(body.get("release_counter", 0))
    requires = _members(body.get("requires", {}), set(), {"memory", "disk"})
    device_types = [_name(item) for item in _list(body.get("device_types", []), 0, 100)]
    if len(set(device_types)) != len(device_types):
        _refuse("it names a device type twice")
    listed = [_file(item) for item in _list(body["files"], 1, MAX_FILES)]
    _check_together(listed)
    modes = {file.path: file.mode for file in listed}
    hooks = _members(body.get("hooks", {}), set(), {"pre_install", "post_install"})
    run = _members(body["run"], {"command"}, {"environment"}) if "run" in body else {}
    return Manifest(
        name=_name(body["name"]),
        version=_name(body["version"]),
        device_types=device_types,
        memory=_whole(requires.get("memory", 0)),
        disk=_whole(requires.get("disk", 0)),
        files=listed,
        hooks={name: _hook(hook, modes) for name, hook in hooks.items()},
        run=_command(run["command"], modes) if run else [],
        environment=_environment(run.get("environment", {})),
        health=_health(body["health"], modes, has_run=bool(run)) if "health" in body else None,
        sha256=sha256,
    )


def _refuse(why: str) -> NoReturn:
    raise Refused("bad_manifest", f"The manifest is refused: {why}.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member stands twice")
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _members(value: Any, required: set[str], optional: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        _refuse("a member is no object")
    if required - value.keys() or value.keys() - required - optional:
        _refuse("a member is missing or unknown")
    return value


def _list(value: Any, least: int, most: int) -> list[Any]:
    if not isinstance(value, list) or not least <= len(value) <= most:
        _refuse(f"a list has not {least} to {most} items")
    return value


def _whole(value: Any, least: int = 0, most: int = MAX_NUMBER) -> int:
    if type(value) is not int or not least <= value <= most:
        _refuse("a number is not whole or out of its range")
    return value


def _name(value: Any) -> str:
    if not isinstance(value, str) or not NAME.fullmatch(value):
        _refuse("a name is not plain")
    return value


def _file(value: Any) -> File:
    body = _members(value, {"path", "sha256", "size", "mode"}, set())
    if not isinstance(body["sha256"], str) or not SHA256.fullmatch(body["sha256"]):
        _refuse("a digest is no sha256")
    if _whole(body["mode"]) not in MODES:
        _refuse("a mode is neither 0644 nor 0755")
    return File(_path(body["path"]), body["sha256"], _whole(body["size"]), body["mode"])


def _path(value: Any) -> str:
    if not isinstance(value, str) or not value or "\\" in value:
        _refuse("a path is empty or has a backslash")
    if any(character < " " or "\x7f" <= character <= "\x9f" for character in value):
        _refuse("a path has a control character")
    try:
        sizes = [len(part.encode("utf-8")) for part in value.split("/")]
    except UnicodeEncodeError:
        _refuse("a path has a lone surrogate")
    if max(sizes) > 255 or sum(sizes) + len(sizes) - 1 > 1024:
        _refuse("a path is too long")
    if not unicodedata.is_normalized("NFC", value) or {"", ".", ".."} & set(value.split("/")):
        _refuse("a path is not relative and plain")
    return value


def _check_together(listed: list[File]) -> None:
    paths = [file.path for file in listed]
    if paths != sorted(paths):
        _refuse("its files are not sorted")
    folded = {unicodedata.normalize("NFC", path.casefold()) for path in paths}
    if len(folded) != len(paths):
        _refuse("two paths are the same file")
    for path in folded:
        parts = path.split("/")
        if any("/".join(parts[:end]) in folded for end in range(1, len(parts))):
            _refuse("a path is a file and a directory")
    if sum(file.size for file in listed) > MAX_NUMBER:
        _refuse("its files are too large together")
    if len({(file.sha256, file.size) for file in listed}) != len({file.sha256 for file in listed}):
        _refuse("a digest has two sizes")


def _hook(value: Any, modes: dict[str, int]) -> Hook:
    body = _members(value, {"command", "timeout_seconds"}, set())
    return Hook(_command(body["command"], modes), _whole(body["timeout_seconds"], 1, MAX_SECONDS))


def _command(value: Any, modes: dict[str, int]) -> list[str]:
    words = [_word(item) for item in _list(value, 1, MAX_WORDS)]
    if words[0].startswith("./"):
        if modes.get(words[0][2:]) != 0o755:
            _refuse("a command is no executable file of the bundle")
    elif not words[0] or "/" in words[0]:
        _refuse("a command is neither a file of the bundle nor a plain name")
    return words


def _word(value: Any) -> str:
    if not isinstance(value, str) or "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
        _refuse("a word of a command is no text")
    if len(value.encode("utf-8")) > MAX_WORD_SIZE:
        _refuse("a word of a command is no text, or too long")
    return value


def _environment(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > MAX_WORDS:
        _refuse("`environment` is no object")
    if not all(VARIABLE.fullmatch(name) for name in value):
        _refuse("a variable's name is not allowed")
    return {name: _word(text) for name, text in value.items()}


def _health(value: Any, modes: dict[str, int], *, has_run: bool) -> Health:
    body = _members(value, {"timeout_seconds"}, {"command", "file", "interval_seconds"})
    timeout = _whole(body["timeout_seconds"], 1, MAX_SECONDS)
    if ("command" in body) == ("file" in body):
        _refuse("`health` needs either a command or a file")
    if "command" in body:
        interval = _whole(body.get("interval_seconds", 2), 1, MAX_SECONDS)
        return Health(timeout, command=_command(body["command"], modes), interval_seconds=interval)
    if "interval_seconds" in body or not has_run:
        _refuse("`health.file` goes with a run command and has no interval")
    return Health(timeout, file=_path(body["file"]))
