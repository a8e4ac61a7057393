"""The fast reader of a heartbeat's body.

`HeartbeatRequest` in `device_serializers` describes the same message for OpenAPI; a test compares the two. This reader
is several times faster, and no other message arrives as often.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any, NoReturn, TypeGuard

from devices.models import CommandOutcome
from devices.models.command import MAX_OUTCOME_MESSAGE_LENGTH
from devices.models.health import reported_health
from foundation.errors import BadRequest

MAX_BUNDLES = 64
MAX_ACKNOWLEDGED = 1000
MAX_OUTCOMES = 100
MAX_METRICS_SIZE = 16 * 1024
MAX_VERDICT_SIZE = 4 * 1024
# The magnitudes of numbers other than 0 that a device may report. PostgreSQL writes 1e308 and 1e-308 as 309 digits.
MIN_NUMBER, MAX_NUMBER = 1e-30, 2**53
NUMBER_RANGE = f"must be 0, or from {MIN_NUMBER} to {MAX_NUMBER} in magnitude."
MAX_RESTARTS = 10_000
MAX_HEALTH_MESSAGE_LENGTH = 500
MAX_ID = 2**63 - 1

NAME_PATTERN = "[a-z0-9][a-z0-9._+-]{0,62}"
SHA256_PATTERN = "[0-9a-f]{64}"
_NAME = re.compile(NAME_PATTERN)
_SHA256 = re.compile(SHA256_PATTERN)
_OUTCOMES = frozenset(CommandOutcome.values)


@dataclass(frozen=True, slots=True)
class ReportedOutcome:
    """How a command ended on the device. `message` is for people."""

    command_id: int
    outcome: str
    message: str


@dataclass(frozen=True, slots=True)
class HeartbeatReport:
    """What a device reports in a heartbeat. `metrics` and `running_bundles` are JSON texts, as the database wants.

    `running_sha256` is the digest of the products and their manifests, without their health. `health` is a `Health`.
    """

    agent_version: str
    boot_id: str
    status: str
    metrics: str
    running_bundles: str
    running_sha256: str
    health: str
    acknowledged_commands: list[int]
    command_outcomes: list[ReportedOutcome]


def read(body: Any) -> HeartbeatReport:
    """Check a parsed body. Unknown fields are ignored.

    Raises:
        BadRequest: `invalid`, with `fields`, which names the first invalid field.
    """
    if type(body) is not dict:
        raise BadRequest("invalid", "The body must be a JSON object.")
    running_bundles = _running_bundles(body.get("running_bundles"))
    return HeartbeatReport(
        agent_version=_text(body, "agent_version", 64),
        boot_id=_text(body, "boot_id", 64),
        status=_text(body, "status", 32),
        metrics=_metrics(body.get("metrics")),
        running_bundles=_json(running_bundles) if running_bundles else "{}",
        running_sha256=_running_sha256(running_bundles),
        health=reported_health(running_bundles).value,
        acknowledged_commands=_acknowledged(body.get("acknowledged_commands")),
        command_outcomes=_outcomes(body.get("command_outcomes")),
    )


def json_size(value: Any) -> int:
    """Return the length of a value as compact JSON, in characters. The limits of objects refer to it."""
    return len(_json(value))


def has_extreme_number(value: Any) -> bool:
    """Return whether a JSON value contains a number other than 0 outside of `MIN_NUMBER` to `MAX_NUMBER`."""
    if isinstance(value, dict):
        return any(map(has_extreme_number, value.values()))
    if isinstance(value, list):
        return any(map(has_extreme_number, value))
    return isinstance(value, int | float) and value != 0 and not MIN_NUMBER <= abs(value) <= MAX_NUMBER


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _refuse(field: str, message: str) -> NoReturn:
    raise BadRequest("invalid", "Some fields are invalid.", fields={field: [message]})


def _text(body: dict[str, Any], field: str, max_length: int) -> str:
    value = body.get(field)
    if type(value) is not str or not 0 < len(value) <= max_length:
        _refuse(field, f"This must be a string of 1 to {max_length} characters.")
    return value


def _metrics(value: Any) -> str:
    """Return the metrics as JSON text."""
    if value is None:
        return "{}"
    if type(value) is not dict:
        _refuse("metrics", "This must be an object.")
    text = _json(value)
    if len(text) > MAX_METRICS_SIZE:
        _refuse("metrics", f"This must be at most {MAX_METRICS_SIZE} characters of JSON.")
    if has_extreme_number(value):
        _refuse("metrics", f"Numbers {NUMBER_RANGE}")
    return text


def _running_bundles(value: Any) -> dict[str, dict[str, Any]]:
    if type(value) is not dict or len(value) > MAX_BUNDLES:
        _refuse("running_bundles", f"This must be an object with at most {MAX_BUNDLES} products.")
    return {product: _running_bundle(product, bundle) for product, bundle in value.items()}


def _running_sha256(running_bundles: dict[str, dict[str, Any]]) -> str:
    """Return the digest of what runs. It is empty if nothing runs."""
    lines = sorted(f"{product} {bundle['manifest_sha256']}" for product, bundle in running_bundles.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest() if lines else ""


def _running_bundle(product: str, bundle: Any) -> dict[str, Any]:
    field = "running_bundles"
    if _NAME.fullmatch(product) is None or type(bundle) is not dict:
        _refuse(field, "Each key must be the name of a product, and each value an object.")
    version, sha256, healthy = bundle.get("version"), bundle.get("manifest_sha256"), bundle.get("healthy")
    if type(version) is not str or _NAME.fullmatch(version) is None:
        _refuse(field, "`version` must be the version of a bundle.")
    if type(sha256) is not str or _SHA256.fullmatch(sha256) is None:
        _refuse(field, "`manifest_sha256` must be 64 lowercase hexadecimal digits.")
    if type(healthy) is not bool:
        _refuse(field, "`healthy` must be true or false.")
    return {"version": version, "manifest_sha256": sha256, "healthy": healthy, **_health_details(bundle)}


def _health_details(bundle: dict[str, Any]) -> dict[str, Any]:
    """Check the optional fields of a running bundle, and return those that are present."""
    field = "running_bundles"
    restarts, message, verdict = bundle.get("restarts"), bundle.get("message"), bundle.get("verdict")
    details: dict[str, Any] = {}
    if restarts is not None:
        if type(restarts) is not int or not 0 <= restarts <= MAX_RESTARTS:
            _refuse(field, f"`restarts` must be a whole number from 0 to {MAX_RESTARTS}.")
        details["restarts"] = restarts
    if message is not None:
        if type(message) is not str or len(message) > MAX_HEALTH_MESSAGE_LENGTH:
            _refuse(field, f"`message` must be a string of at most {MAX_HEALTH_MESSAGE_LENGTH} characters.")
        details["message"] = message
    if verdict is not None:
        if type(verdict) is not dict or json_size(verdict) > MAX_VERDICT_SIZE:
            _refuse(field, f"`verdict` must be an object of at most {MAX_VERDICT_SIZE} characters of JSON.")
        if has_extreme_number(verdict):
            _refuse(field, f"Numbers in `verdict` {NUMBER_RANGE}")
        details["verdict"] = verdict
    return details


def _acknowledged(value: Any) -> list[int]:
    if value is None:
        return []
    if type(value) is not list or len(value) > MAX_ACKNOWLEDGED:
        _refuse("acknowledged_commands", f"This must be a list of at most {MAX_ACKNOWLEDGED} ids.")
    if not all(_is_id(item) for item in value):
        _refuse("acknowledged_commands", "Each id must be a positive whole number.")
    return value


def _outcomes(value: Any) -> list[ReportedOutcome]:
    if value is None:
        return []
    if type(value) is not list or len(value) > MAX_OUTCOMES:
        _refuse("command_outcomes", f"This must be a list of at most {MAX_OUTCOMES} objects.")
    return [_outcome(item) for item in value]


def _outcome(item: Any) -> ReportedOutcome:
    field = "command_outcomes"
    if type(item) is not dict:
        _refuse(field, "Each item must be an object.")
    command_id, outcome, message = item.get("id"), item.get("outcome"), item.get("message", "")
    if not _is_id(command_id):
        _refuse(field, "`id` must be a positive whole number.")
    if type(outcome) is not str or outcome not in _OUTCOMES:
        _refuse(field, f"`outcome` must be one of {', '.join(CommandOutcome.values)}.")
    if type(message) is not str or len(message) > MAX_OUTCOME_MESSAGE_LENGTH:
        _refuse(field, f"`message` must be a string of at most {MAX_OUTCOME_MESSAGE_LENGTH} characters.")
    return ReportedOutcome(command_id, outcome, message)


def _is_id(value: Any) -> TypeGuard[int]:
    return type(value) is int and 0 < value <= MAX_ID
