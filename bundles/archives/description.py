"""`kernex.toml` and `kernex.json`: the manifest fields that cannot be derived from an archive's files."""

import re
import tomllib
from typing import Any

from bundles.errors import BadBundle
from bundles.manifest import canonical
from foundation.api.parsers import parse_json
from foundation.errors import BadRequest

NAMES = {"kernex.toml", "kernex.json"}
FIELDS = {"device_types", "requires", "release_counter", "hooks", "run", "health"}
MAX_JSON_SIZE = 256 * 1024
MAX_TOML_SIZE = 64 * 1024
# No field of a manifest is nested deeper. A dotted key of n parts costs tomllib n² memory: 40 KB cost 1.5 GiB.
MAX_DEPTH = 8
# The parts of a TOML document that matter for nesting. Strings and comments come first: their contents do not count.
# An unterminated string extends to the end of its line or of the document, which keeps the scan linear.
_TOML_TOKEN = re.compile(
    r"""
      \"{3}(?:\\.|[^\\])*?(?:\"{3,5}|\\?\Z) | '{3}.*?(?:'{3,5}|\Z)    # multi-line strings
    | "(?:\\.|[^"\\\n])*"? | '[^'\n]*'? | \#[^\n]*                     # single-line strings, comments
    | (?P<open>[\[{]) | (?P<close>[\]}]) | (?P<dot>\.) | (?P<end>[=,\n])
    """,
    re.VERBOSE | re.DOTALL,
)


def max_size(path: str) -> int:
    """Return the maximum size in bytes of the description at `path`."""
    return MAX_TOML_SIZE if path.endswith(".toml") else MAX_JSON_SIZE


def parse_description(path: str, body: bytes) -> dict[str, Any]:
    """Return the manifest fields that a description sets. Raises `BadBundle` (`bad_description`)."""
    if len(body) > max_size(path):
        raise BadBundle("bad_description", f"{path} is larger than {max_size(path)} bytes.")
    is_toml = path.endswith(".toml")
    if is_toml and toml_depth(body.decode("utf-8", "replace")) > MAX_DEPTH:
        raise BadBundle("bad_description", f"{path} is nested deeper than {MAX_DEPTH} levels.")
    try:
        value = tomllib.loads(body.decode("utf-8")) if is_toml else parse_json(body)
        canonical(value)  # TOML has times, and numbers that JSON lacks
    except (ValueError, TypeError, RecursionError, BadRequest) as error:
        raise BadBundle("bad_description", f"{path} cannot be parsed: {str(error)[:200]}") from error
    if not isinstance(value, dict):
        raise BadBundle("bad_description", f"{path} must be a table of fields such as `run` and `health`.")
    if unknown := sorted(value.keys() - FIELDS):
        raise BadBundle("bad_description", f"{path} has an unknown field {unknown[0][:80]!a}.")
    return value


def toml_depth(text: str) -> int:
    """Return the deepest nesting of brackets or the most parts of a dotted key, whichever is larger, in linear time."""
    deepest = depth = dots = 0
    for token in _TOML_TOKEN.finditer(text):
        kind = token.lastgroup
        if kind == "dot":
            dots += 1
        elif kind:
            dots = 0
            depth += (kind == "open") - (kind == "close")
        deepest = max(deepest, depth, dots + 1)
    return deepest
