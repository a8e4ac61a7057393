"""The rules for a bundle's manifest. They are the same as on the server and on devices, each with its own code.

A manifest is canonical JSON: UTF-8, sorted keys, the separators `,` and `:`, no unnecessary escapes, no trailing
newline. A bundle that breaks a rule is refused before anything is sent.
"""

import json
import re
from collections.abc import Iterable
from typing import Any, NoReturn

from kernex_cli.errors import BadManifest
from kernex_cli.paths import check_path, check_together

SCHEMA = 1
REGULAR_MODE, EXECUTABLE_MODE = 0o644, 0o755
MAX_NUMBER = 2**53 - 1
MAX_MANIFEST_SIZE = 4 * 1024 * 1024
MAX_FILES = 10_000
MAX_SECONDS = 86_400
MAX_DEVICE_TYPES = 100
MAX_PORT = 65_535
MAX_URL_PATH_LENGTH = 1024
MAX_ITEMS = 256
MAX_TEXT_SIZE = 4096
NAME = re.compile(r"[a-z0-9][a-z0-9._+-]{0,62}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_VARIABLE = re.compile(r"(?!KERNEX_)[A-Za-z_][A-Za-z0-9_]{0,127}")
# The characters of a URL's path and query (RFC 3986). A percent sign begins an escape.
_URL_PATH = re.compile(r"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*")
_HEALTH_CHECKS = {"command", "file", "http"}
_HOOKS = {"pre_install", "post_install"}

ExecutableByPath = dict[str, bool]


def canonical(value: object) -> bytes:
    """Return `value` as canonical JSON, the bytes that the manifest's sha256 is computed from."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def read_json(text: bytes) -> Any:
    """Parse strict JSON, without the extensions of Python's parser. Raises `BadManifest` (`not_json`)."""
    try:
        value = json.loads(text.decode(), object_pairs_hook=_without_duplicates, parse_constant=_refuse_constant)
        canonical(value)  # refuses infinite numbers and lone surrogates
    except RecursionError:
        raise BadManifest("not_json", "It is nested too deeply.") from None
    except ValueError as error:
        raise BadManifest("not_json", f"It is not valid JSON: {str(error)!a}.") from None
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a field appears twice")
    return dict(pairs)


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not a JSON number")


def check(manifest: object) -> None:
    """Check a complete manifest. Raises `BadManifest` with the code of the first broken rule."""
    optional = {"release_counter", "device_types", "requires", "hooks", "run", "health"}
    top = _object(manifest, "the manifest", {"schema", "name", "version", "files"}, optional)
    if type(top["schema"]) is not int or top["schema"] != SCHEMA:
        _refuse("bad_schema", f"`schema` must be {SCHEMA}")
    requires = _object(top.get("requires", {}), "requires", set(), {"memory", "disk"})
    executables = check_files(top["files"])
    if "run" in top:
        _check_run(top["run"], executables)
    for field in ("name", "version"):
        check_name(top[field], f"bad_{field}", field)
    _integer(top.get("release_counter", 0), "bad_release_counter", "release_counter")
    _check_device_types(top.get("device_types", []))
    for field, amount in requires.items():
        _integer(amount, "bad_requires", f"requires.{field}")
    _check_hooks(top.get("hooks", {}), executables)
    if "health" in top:
        _check_health(top["health"], executables, has_run_command="run" in top)
    if len(canonical(manifest)) > MAX_MANIFEST_SIZE:
        _refuse("manifest_too_large", f"The manifest must not be larger than {MAX_MANIFEST_SIZE} bytes")


def check_name(value: object, code: str, field: str) -> None:
    """Check the name or version `value`. Raises `BadManifest` with `code`."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        _refuse(code, f"The {field} must have 1 to 63 characters of a-z, 0-9 and `._+-`, and begin with a-z or 0-9")


def check_files(value: object) -> ExecutableByPath:
    """Check `files`. Return whether each path is executable. Raises `BadManifest`."""
    if not isinstance(value, list) or not value:
        _refuse("bad_files", "A bundle must have at least one file")
    if len(value) > MAX_FILES:
        _refuse("too_many_files", f"A bundle may have at most {MAX_FILES} files, not {len(value)}")
    for entry in value:
        _check_file(entry)
    paths = [entry["path"] for entry in value]
    check_together(paths)
    if sorted(paths) != paths:
        _refuse("files_not_sorted", "`files` must be sorted by path")
    if sum(entry["size"] for entry in value) > MAX_NUMBER:
        _refuse("bundle_too_large", f"The files together must not be larger than {MAX_NUMBER} bytes")
    if len({entry["sha256"] for entry in value}) != len({(entry["sha256"], entry["size"]) for entry in value}):
        _refuse("size_differs", "One sha256 has two sizes")
    return {entry["path"]: entry["mode"] == EXECUTABLE_MODE for entry in value}


def _check_file(value: object) -> None:
    entry = _object(value, "files[]", {"path", "sha256", "size", "mode"}, set())
    check_path(entry["path"])
    if not isinstance(entry["sha256"], str) or not _SHA256.fullmatch(entry["sha256"]):
        _refuse("bad_sha256", "A sha256 must be 64 lower-case hex digits")
    _integer(entry["size"], "bad_size", "size")
    if type(entry["mode"]) is not int or entry["mode"] not in (REGULAR_MODE, EXECUTABLE_MODE):
        _refuse("bad_mode", "A mode must be 420 (0644) or 493 (0755)")


def _check_device_types(value: object) -> None:
    if not isinstance(value, list) or len(value) > MAX_DEVICE_TYPES:
        _refuse("bad_device_types", f"`device_types` must be a list of at most {MAX_DEVICE_TYPES} names")
    for item in value:
        check_name(item, "bad_device_types", "device type")
    if len(set(value)) < len(value):
        _refuse("bad_device_types", "`device_types` must not list a type more than once")


def _check_hooks(value: object, executables: ExecutableByPath) -> None:
    for name, hook in _object(value, "hooks", set(), _HOOKS).items():
        inner = _object(hook, f"hooks.{name}", {"command", "timeout_seconds"}, set())
        _check_command(inner["command"], executables, f"hooks.{name}.command")
        _integer(inner["timeout_seconds"], "bad_timeout", f"hooks.{name}.timeout_seconds", 1, MAX_SECONDS)


def _check_run(value: object, executables: ExecutableByPath) -> None:
    run = _object(value, "run", {"command"}, {"environment"})
    environment = run.get("environment", {})
    if not isinstance(environment, dict) or len(environment) > MAX_ITEMS:
        _refuse("bad_environment", f"`run.environment` must be an object of at most {MAX_ITEMS} variables")
    for name, text in environment.items():
        if not _VARIABLE.fullmatch(name) or not _is_text(text):
            _refuse(
                "bad_environment",
                f"The variable {name[:80]!a} must consist of letters, digits and `_`, must not begin with KERNEX_, "
                f"and must have a value of at most {MAX_TEXT_SIZE} bytes",
            )
    _check_command(run["command"], executables, "run.command")


def _check_health(value: object, executables: ExecutableByPath, *, has_run_command: bool) -> None:
    health = _object(value, "health", {"timeout_seconds"}, {*_HEALTH_CHECKS, "interval_seconds"})
    _integer(health["timeout_seconds"], "bad_timeout", "health.timeout_seconds", 1, MAX_SECONDS)
    if len(_HEALTH_CHECKS & health.keys()) != 1:
        _refuse("bad_health", "`health` must have exactly one of `command`, `file` or `http`")
    if "file" in health:
        if not has_run_command or "interval_seconds" in health:
            _refuse(
                "bad_health",
                "`health.file` requires a `run` command that writes it, and must not have `interval_seconds`",
            )
        check_path(health["file"])
        return
    _integer(health.get("interval_seconds", 2), "bad_interval", "health.interval_seconds", 1, MAX_SECONDS)
    if "command" in health:
        _check_command(health["command"], executables, "health.command")
        return
    if not has_run_command:
        _refuse("bad_health", "`health.http` requires a `run` command that responds to the requests")
    _check_health_url(health["http"])


def _check_health_url(value: object) -> None:
    url = _object(value, "health.http", {"port", "path"}, set())
    _integer(url["port"], "bad_health", "health.http.port", 1, MAX_PORT)
    path = url["path"]
    if not isinstance(path, str) or len(path) > MAX_URL_PATH_LENGTH or not _URL_PATH.fullmatch(path):
        _refuse("bad_health", "`health.http.path` must be the path of a URL, such as /healthz")


def _check_command(value: object, executables: ExecutableByPath, field: str) -> None:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_ITEMS or not all(map(_is_text, value)):
        _refuse(
            "bad_command",
            f"`{field}` must be a list of 1 to {MAX_ITEMS} strings of at most {MAX_TEXT_SIZE} bytes, without NUL",
        )
    program: str = value[0]
    if not program.startswith("./"):
        if not program or "/" in program:
            _refuse("bad_command", f"`{field}` must begin with a program's name, or with `./` and a file of the bundle")
    elif program[2:] not in executables:
        _refuse("command_not_listed", f"`{field}` runs {program[:200]!a}, which is not a file of this bundle")
    elif not executables[program[2:]]:
        _refuse("command_not_executable", f"`{field}` runs {program[:200]!a}, which is not executable: run `chmod +x`")


def _object(value: object, field: str, required: Iterable[str], optional: Iterable[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        _refuse("bad_member", f"`{field}` must be an object")
    for name in sorted(required):
        if name not in value:
            _refuse("missing_member", f"`{field}` must have `{name}`")
    for name in value:
        if name not in required and name not in optional:
            allowed = ", ".join(sorted({*required, *optional}))
            _refuse("unknown_member", f"`{field}` has the unknown field {name[:80]!a}; allowed are {allowed}")
    return value


def _integer(value: object, code: str, field: str, minimum: int = 0, maximum: int = MAX_NUMBER) -> None:
    if type(value) is not int or not minimum <= value <= maximum:
        _refuse(code, f"`{field}` must be an integer from {minimum} to {maximum}")


def _is_text(value: object) -> bool:
    if not isinstance(value, str) or "\0" in value:
        return False
    return len(value.encode(errors="surrogatepass")) <= MAX_TEXT_SIZE and not re.search("[\ud800-\udfff]", value)


def _refuse(code: str, sentence: str) -> NoReturn:
    raise BadManifest(code, f"{sentence}.")
