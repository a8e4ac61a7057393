"""Reading a heartbeat's body: by hand, because this is the one message that comes every second of the day."""

import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from foundation.errors import BadRequest

MAX_BUNDLES = 64
MAX_ACKNOWLEDGED = 1000
MAX_METRICS_SIZE = 16 * 1024
MAX_VERDICT_SIZE = 4 * 1024
MAX_ID = 2**63 - 1

_NAME = re.compile(r"[a-z0-9][a-z0-9._+-]{0,62}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a device says. `metrics` and `running_bundles` are JSON texts, as the database takes them."""

    agent_version: str
    boot_id: str
    status: str
    metrics: str
    running_bundles: str
    acknowledged_commands: list[int]


def read(body: Any) -> Heartbeat:
    """Check a parsed body and keep what is known of it; unknown fields are ignored.

    Raises `BadRequest` (`invalid`) with `fields`, the first field that is not as it should be.
    """
    if type(body) is not dict:
        raise BadRequest("invalid", "The body is not a JSON object.")
    return Heartbeat(
        agent_version=_word(body, "agent_version", 64),
        boot_id=_word(body, "boot_id", 64),
        status=_word(body, "status", 32),
        metrics=_object(body, "metrics", MAX_METRICS_SIZE),
        running_bundles=_running_bundles(body.get("running_bundles")),
        acknowledged_commands=_acknowledged(body.get("acknowledged_commands")),
    )


def _refuse(field: str, message: str) -> NoReturn:
    raise BadRequest("invalid", "Some fields are not as they should be.", fields={field: [message]})


def _word(body: dict[str, Any], field: str, longest: int) -> str:
    value = body.get(field)
    if type(value) is not str or not 0 < len(value) <= longest:
        _refuse(field, f"This is a string of 1 to {longest} characters.")
    return value


def _object(body: dict[str, Any], field: str, largest: int) -> str:
    """An optional object, as JSON text of bounded size."""
    value = body.get(field)
    if value is None:
        return "{}"
    if type(value) is not dict:
        _refuse(field, "This is an object.")
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if len(text) > largest:
        _refuse(field, f"This is longer than {largest} characters of JSON.")
    return text


def _running_bundles(value: Any) -> str:
    if type(value) is not dict or len(value) > MAX_BUNDLES:
        _refuse("running_bundles", f"This is an object of at most {MAX_BUNDLES} products.")
    if not value:
        return "{}"
    return json.dumps({product: _running_bundle(product, bundle) for product, bundle in value.items()})


def _running_bundle(product: str, bundle: Any) -> dict[str, Any]:
    field = "running_bundles"
    if _NAME.fullmatch(product) is None or type(bundle) is not dict:
        _refuse(field, "Each member is named as its bundle and is an object.")
    version, sha256, healthy = bundle.get("version"), bundle.get("manifest_sha256"), bundle.get("healthy")
    if type(version) is not str or _NAME.fullmatch(version) is None:
        _refuse(field, "`version` is the version of a bundle.")
    if type(sha256) is not str or _SHA256.fullmatch(sha256) is None:
        _refuse(field, "`manifest_sha256` is 64 lower-case hexadecimal digits.")
    if type(healthy) is not bool:
        _refuse(field, "`healthy` is true or false.")
    kept = {"version": version, "manifest_sha256": sha256, "healthy": healthy}
    verdict = bundle.get("verdict")
    if verdict is None:
        return kept
    if type(verdict) is not dict or len(json.dumps(verdict)) > MAX_VERDICT_SIZE:
        _refuse(field, f"`verdict` is an object of at most {MAX_VERDICT_SIZE} characters of JSON.")
    return kept | {"verdict": verdict}


def _acknowledged(value: Any) -> list[int]:
    if value is None:
        return []
    if type(value) is not list or len(value) > MAX_ACKNOWLEDGED:
        _refuse("acknowledged_commands", f"This is a list of at most {MAX_ACKNOWLEDGED} ids.")
    if not all(type(item) is int and 0 < item <= MAX_ID for item in value):
        _refuse("acknowledged_commands", "Each id is a positive whole number.")
    return value
