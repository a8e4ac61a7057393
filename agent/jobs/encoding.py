"""The journal's file format: one JSON object with a checksum over all other fields.

Agents of different versions read each other's journals: unknown fields are ignored, and missing fields get their
default. An entry that cannot be read is omitted, and the others are used.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from enum import StrEnum
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin
from uuid import UUID

from agent.jobs.state import CommandOutcome, Job, LogRequest, Product, Report, State
from agent.manifest import NAME, SHA256

SCHEMA = 2
CHECKSUM = "sha256"
ENTRY_ERRORS = (TypeError, ValueError, KeyError, AttributeError)

T = TypeVar("T")
# The checksum is computed over JSON without spaces, with fields in insertion order, both when writing and reading.
_SEPARATORS = (",", ":")


@dataclass(slots=True)
class Decoded:
    """The state of a journal, and why entries were omitted, such as "jobs: not a valid Stage"."""

    state: State
    omitted: list[str] = field(default_factory=list)
    has_lost_products: bool = False


def encode(state: State) -> bytes:
    """Return the bytes of a journal that contains `state`."""
    text = json.dumps({"schema": SCHEMA, **asdict(state)}, separators=_SEPARATORS)
    checksum = hashlib.sha256(text.encode("ascii")).hexdigest()
    return f'{{"{CHECKSUM}":"{checksum}",{text[1:]}'.encode("ascii")


def decode(data: bytes) -> Decoded:
    """Return the contents of a journal. Raises `ValueError` if the journal as a whole is damaged.

    A journal without a checksum is accepted: a person edited it and removed the checksum.
    """
    try:
        return _decode(json.loads(data))
    except (RecursionError, OverflowError, *ENTRY_ERRORS) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _decode(value: Any) -> Decoded:
    checksum = value.pop(CHECKSUM, None)
    if checksum is not None and checksum != _checksum(value):
        raise ValueError("its checksum is wrong")
    if value["schema"] != SCHEMA:
        raise ValueError("it has another schema")
    decoded = Decoded(State(report_floor=_convert(int, value.get("report_floor", 0))))
    state, omitted = decoded.state, decoded.omitted
    state.commands = _entries("commands", value["commands"], _integer, omitted)
    state.acknowledge = _entries("acknowledge", value["acknowledge"], _integer, omitted)
    state.command_outcomes = _entries("command_outcomes", value.get("command_outcomes", []), _outcome, omitted)
    state.log_requests = _entries("log_requests", value.get("log_requests", []), _log_request, omitted)
    state.jobs = _entries("jobs", value["jobs"], _job, omitted)
    state.outbox = _entries("outbox", value["outbox"], _report, omitted)
    state.ended = _entries("ended", value["ended"], _text, omitted)
    products = _entries("products", list(value["products"].items()), _product, omitted)
    state.products = dict(products)
    decoded.has_lost_products = len(products) < len(value["products"])
    return decoded


def _checksum(value: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, separators=_SEPARATORS).encode("ascii")).hexdigest()


def _entries(name: str, values: Any, read: Callable[[Any], T], omitted: list[str]) -> list[T]:
    """Return the entries that can be read. Add the reasons for the others to `omitted`."""
    if not isinstance(values, list):
        raise TypeError(f"{name} is not a list")
    entries: list[T] = []
    for value in values:
        try:
            entries.append(read(value))
        except ENTRY_ERRORS as error:
            omitted.append(f"{name}: {error}")
    return entries


def _integer(value: Any) -> int:
    return int(_convert(int, value))


def _text(value: Any) -> str:
    return str(_convert(str, value))


def _outcome(value: Any) -> CommandOutcome:
    return _build(CommandOutcome, value)


def _log_request(value: Any) -> LogRequest:
    log_request = _build(LogRequest, value)
    UUID(log_request.request_id)
    return log_request


def _job(value: Any) -> Job:
    job = _build(Job, value)
    if job.deployment_id:
        UUID(job.deployment_id)
    if not NAME.fullmatch(job.product) or (job.manifest_sha256 and not SHA256.fullmatch(job.manifest_sha256)):
        raise ValueError("a name or a digest is not valid")
    return job


def _report(value: Any) -> Report:
    report = _build(Report, value)
    UUID(report.deployment_id)
    return report


def _product(item: tuple[str, Any]) -> tuple[str, Product]:
    name, value = item
    product = _build(Product, value)
    digests = [release.manifest_sha256 for release in (product.current, product.previous) if release is not None]
    if not NAME.fullmatch(name) or not all(SHA256.fullmatch(digest) for digest in digests):
        raise ValueError("a name or a digest is not valid")
    return name, product


def _build(kind: type[T], value: Any) -> T:
    """Return a dataclass from its JSON object. Raises `TypeError` or `ValueError` for a wrong or missing field."""
    if not isinstance(value, dict):
        raise TypeError(f"not a {kind.__name__}")
    members = {item.name: _convert(item.type, value[item.name]) for item in fields(kind) if item.name in value}  # type: ignore[arg-type]
    return kind(**members)


def _convert(kind: Any, value: Any) -> Any:
    """Convert `value` to the type of a field. Raises `TypeError` or `ValueError` for a value of another type."""
    if isinstance(kind, UnionType):
        return None if value is None else _convert(get_args(kind)[0], value)
    if get_origin(kind) is dict:
        return {_convert(str, name): _convert(get_args(kind)[1], member) for name, member in value.items()}
    if is_dataclass(kind):
        return _build(kind, value)  # type: ignore[arg-type]
    if issubclass(kind, StrEnum):
        return kind(value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise TypeError(f"{type(value).__name__} instead of {kind.__name__}")
    return value
