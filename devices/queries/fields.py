"""The fields of queries over devices that this app knows. Other apps add theirs: see `devices.queries.registry`.

Each field has an SQL expression and a function that reads the same value from a device. In SQL, `{device}` stands for
the alias of the device's table.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Any

from devices.models import Device, DeviceState, Health
from devices.models.device_queryset import MISSED_INTERVALS, OFFLINE_MINIMUM_SECONDS
from devices.queries.suggestions import complete_groups, complete_tags, complete_types

TEXT_OPERATORS = ("=", "!=", "~")
ORDERED_OPERATORS = ("=", "!=", "<", "<=", ">", ">=")


class FieldType(Enum):
    """What a field's values are, and how they are compared."""

    TEXT = auto()
    CHOICE = auto()
    BOOLEAN = auto()
    TIME = auto()
    VERSION = auto()
    TAGS = auto()  # an array of texts; equal if one is equal
    JSON = auto()  # a text, number or boolean inside a JSON object, which may be missing
    IDS = auto()  # an array of ids; equal if one is equal
    PRODUCTS = auto()  # as TAGS; without quotation marks, `true` and `false` ask whether there is any


@dataclass(frozen=True, slots=True)
class Field:
    """A field of queries.

    `sql` is the expression of its value. `read` returns the same from a device with its group, given the time and the
    parts of the name after the first dot; a field of another app may read further tables. `path` says what these parts
    are, such as `PRODUCT`; an `ID` must be a UUID. `example` is a query.

    `equal_sql` is a condition that replaces the comparison of `sql` for equality with one value, `%(value)s`.
    `set_sql` replaces the condition that there is a value.
    `completer` returns a few values that begin with a text, whatever its case; choices need none.
    """

    name: str
    type: FieldType
    sql: str
    read: Callable[[Device, datetime, tuple[str, ...]], Any]
    example: str
    path: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    equal_sql: str = ""
    set_sql: str = ""
    completer: Callable[[str], list[str]] | None = None

    @property
    def title(self) -> str:
        """The field as it is written, such as `attr.KEY`."""
        return ".".join((self.name, *self.path))

    @property
    def operators(self) -> tuple[str, ...]:
        if self.type in {FieldType.CHOICE, FieldType.BOOLEAN, FieldType.IDS}:
            return ("=", "!=")
        if self.type in {FieldType.TEXT, FieldType.TAGS, FieldType.PRODUCTS}:
            return TEXT_OPERATORS
        return ORDERED_OPERATORS if self.type is FieldType.TIME else (*ORDERED_OPERATORS, "~")


_GROUP_NAME = "(SELECT name FROM devices_group AS its_group WHERE its_group.id = {device}.group_id)"
_GROUP_INTERVAL = "(SELECT interval_seconds FROM devices_group AS its_group WHERE its_group.id = {device}.group_id)"
_OFFLINE_AFTER = f"make_interval(secs => greatest({_GROUP_INTERVAL} * {MISSED_INTERVALS}, {OFFLINE_MINIMUM_SECONDS}))"
_ONLINE = (
    f"({{device}}.state = '{DeviceState.ACCEPTED.value}'"
    f" AND coalesce({{device}}.last_heartbeat_at > %(now)s - {_OFFLINE_AFTER}, false))"
).replace("{{device}}", "{device}")
# A decommissioned device has no health, as in `DeviceQuerySet.with_health`.
_HEALTH = f"""CASE
    WHEN {{device}}.state = '{DeviceState.DECOMMISSIONED.value}' THEN NULL
    WHEN {_ONLINE} THEN coalesce(nullif({{device}}.reported_health, ''), '{Health.UNKNOWN.value}')
    ELSE '{Health.UNKNOWN.value}'
END"""


def _health(device: Device, now: datetime, _: tuple[str, ...]) -> str | None:
    return None if device.state == DeviceState.DECOMMISSIONED else device.health_at(now).value


def _inside(document: Any, path: tuple[str, ...]) -> Any:
    """Return a value inside nested JSON objects, or None."""
    for key in path:
        if not isinstance(document, dict):
            return None
        document = document.get(key)
    return document


FIELDS = (
    Field("name", FieldType.TEXT, "{device}.name", lambda device, *_: device.name, 'name ~ "door"'),
    Field("id", FieldType.TEXT, "{device}.id::text", lambda device, *_: str(device.id), "id ~ 6f0c6a5e"),
    Field(
        "group", FieldType.TEXT, _GROUP_NAME, lambda device, *_: device.group.name, "group = lab",
        completer=complete_groups,
    ),
    Field(
        "tag", FieldType.TAGS, "{device}.tags", lambda device, *_: device.tags, "tag = north", completer=complete_tags
    ),
    Field("test", FieldType.BOOLEAN, "{device}.is_test", lambda device, *_: device.is_test, "test = true"),
    Field(
        "type", FieldType.TEXT, "{device}.device_type", lambda device, *_: device.device_type, "type = edge",
        completer=complete_types,
    ),
    Field(
        "state", FieldType.CHOICE, "{device}.state", lambda device, *_: str(device.state), "state = pending",
        choices=tuple(DeviceState.values),
    ),
    Field("health", FieldType.CHOICE, _HEALTH, _health, "health = unhealthy", choices=tuple(Health.values)),
    Field("online", FieldType.BOOLEAN, _ONLINE, lambda device, now, _: device.is_online_at(now), "online = false"),
    Field(
        "last_heartbeat", FieldType.TIME, "{device}.last_heartbeat_at", lambda device, *_: device.last_heartbeat_at,
        "last_heartbeat < 10m ago",
    ),
    Field(
        "registered", FieldType.TIME, "{device}.registered_at", lambda device, *_: device.registered_at,
        "registered > 2026-11-24T10:00Z",
    ),
    Field(
        "agent", FieldType.VERSION, "nullif({device}.agent_version, '')",
        lambda device, *_: device.agent_version or None, "agent < 1.2.0",
    ),
    Field(
        "serial", FieldType.JSON, "{device}.attributes -> 'serial'",
        lambda device, *_: _inside(device.attributes, ("serial",)), "serial = 100000001234",
    ),
    Field(
        "attr", FieldType.JSON, "{device}.attributes -> %(path_0)s",
        lambda device, _, path: _inside(device.attributes, path), "attr.board = r5", path=("KEY",),
    ),
    Field(
        "metric", FieldType.JSON, "{device}.metrics -> %(path_0)s",
        lambda device, _, path: _inside(device.metrics, path), "metric.disk_free < 1000000000", path=("KEY",),
    ),
    Field(
        "verdict", FieldType.JSON, "{device}.running_bundles -> %(path_0)s -> 'verdict' -> %(path_1)s",
        lambda device, _, path: _inside(device.running_bundles, (path[0], "verdict", path[1])),
        "verdict.svc.latency_ms > 200", path=("PRODUCT", "KEY"),
    ),
    Field(
        "runs", FieldType.VERSION, "{device}.running_bundles -> %(path_0)s ->> 'version'",
        lambda device, _, path: _inside(device.running_bundles, (path[0], "version")), "runs.svc = 1.4.0",
        path=("PRODUCT",),
    ),
)  # fmt: skip
