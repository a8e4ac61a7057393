"""`kernex.toml` or `kernex.json`: the fields of a manifest that cannot be derived from the files.

The fields are `device_types`, `requires`, `release_counter`, `hooks`, `run` and `health`. The file itself is not
part of the bundle.
"""

import re
import tomllib
from pathlib import Path
from typing import Any

from kernex_cli.errors import BadManifest, LocalProblem
from kernex_cli.manifest import read_json

NAMES = ("kernex.toml", "kernex.json")
FIELDS = ("device_types", "requires", "release_counter", "hooks", "run", "health")
MAX_SIZE = 256 * 1024
# The longest key that a description needs has three parts: hooks.pre_install.command.
MAX_KEY_PARTS = 8
# Linear in the text's length: a text that is not closed reaches to the end of its line or of the file.
_TEXTS_AND_COMMENTS = re.compile(
    r'"""(?:\\.|[^\\])*?(?:"""|\Z)|\'\'\'.*?(?:\'\'\'|\Z)|"(?:\\.|[^"\\\n])*+"?|\'[^\'\n]*+\'?|(?P<comment>#[^\n]*)',
    re.DOTALL,
)
_LONG_KEY = re.compile(rf"(?<![\w-])[\w-]++(?:[ \t]*+\.[ \t]*+[\w-]++){{{MAX_KEY_PARTS}}}")


def find(directory: Path) -> Path | None:
    """Return the description in `directory`, or None. Raises `LocalProblem` if there are two."""
    paths = [directory / name for name in NAMES if (directory / name).is_file()]
    if len(paths) > 1:
        raise LocalProblem(f"{directory} contains both kernex.toml and kernex.json: keep only one of them.")
    return paths[0] if paths else None


def read(path: Path | None) -> dict[str, Any]:
    """Return the fields that `path` adds to the manifest, or none if it is None. Raises `LocalProblem`."""
    if path is None:
        return {}
    try:
        with path.open("rb") as file:
            body = file.read(MAX_SIZE + 1)
        if len(body) > MAX_SIZE:
            raise LocalProblem(f"{path} must not be larger than {MAX_SIZE // 1024} KiB.")
        fields = read_json(body) if path.suffix == ".json" else _read_toml(body)
    except OSError as error:
        raise LocalProblem(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, BadManifest) as error:
        raise LocalProblem(f"{path} is not valid: {error}") from None
    if not isinstance(fields, dict):
        raise LocalProblem(f"{path} must be a table of fields such as `run` and `health`.")
    if unknown := sorted(fields.keys() - set(FIELDS)):
        raise LocalProblem(f"{path} has the unknown field {unknown[0]!a}; allowed are {', '.join(FIELDS)}.")
    return fields


def _read_toml(body: bytes) -> dict[str, Any]:
    """Parse TOML within bounds. Raises `ValueError`.

    The time and memory that tomllib needs grow with the square of a dotted key's length: 40 KB would take 1.5 GiB.
    """
    text = body.decode()
    keys = _TEXTS_AND_COMMENTS.sub(lambda match: "" if match["comment"] else "text", text)
    if _LONG_KEY.search(keys):
        raise ValueError(f"a dotted key has more than {MAX_KEY_PARTS} parts.")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply.") from None
