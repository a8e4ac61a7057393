"""`kernex.toml` or `kernex.json`: what a bundle's files cannot say about themselves.

It has the manifest's own members `device_types`, `requires`, `release_counter`, `hooks`, `run` and `health`, and is not
itself part of the bundle.
"""

import tomllib
from pathlib import Path
from typing import Any

from kernex_cli.errors import BadManifest, LocalProblem
from kernex_cli.manifest import read_json

NAMES = ("kernex.toml", "kernex.json")
MEMBERS = ("device_types", "requires", "release_counter", "hooks", "run", "health")


def find(directory: Path) -> Path | None:
    """The description in `directory`, if there is one. Raises `LocalProblem` if there are two."""
    found = [directory / name for name in NAMES if (directory / name).is_file()]
    if len(found) > 1:
        raise LocalProblem(f"{directory} holds kernex.toml and kernex.json: keep one of them.")
    return found[0] if found else None


def read(path: Path | None) -> dict[str, Any]:
    """The members that `path` adds to the manifest. Raises `LocalProblem`."""
    if path is None:
        return {}
    try:
        body = path.read_bytes()
        members = read_json(body) if path.suffix == ".json" else tomllib.loads(body.decode())
    except OSError as error:
        raise LocalProblem(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, BadManifest) as error:
        raise LocalProblem(f"{path} cannot be understood: {error}") from None
    if not isinstance(members, dict):
        raise LocalProblem(f"{path} is no table of members such as `run` and `health`.")
    if unknown := sorted(members.keys() - set(MEMBERS)):
        raise LocalProblem(f"{path} has the member {unknown[0]!a}: it may have {', '.join(MEMBERS)}.")
    return members
