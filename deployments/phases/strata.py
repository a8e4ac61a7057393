"""Strata: the properties by which the devices of a deployment are divided, so that every phase has some of each."""

from typing import Any, NamedTuple

from foundation.errors import BadRequest

MAX_STRATA = 5
# A phase admits from each stratum separately. With more strata, the random order has to do.
MAX_MIXED_STRATA = 200
TAG_PREFIX = "tag:"
# The properties, and the SQL of their values. `device` is the alias of the device's table.
PROPERTIES = {
    "type": "device.device_type",
    "group": "(SELECT name FROM devices_group WHERE devices_group.id = device.group_id)",
    "running": "coalesce(device.running_bundles -> %(stratum_product)s ->> 'version', '')",
}
_TAG = """coalesce((
    SELECT min(tag) FROM unnest(device.tags) AS tag WHERE starts_with(tag, %(stratum_tag_{number})s)
), '')"""


class Sql(NamedTuple):
    """A fragment of SQL with named parameters, and their values."""

    text: str
    values: dict[str, Any]


def is_tag_prefix(name: str) -> bool:
    return name.startswith(TAG_PREFIX) and len(name) > len(TAG_PREFIX)


def check_strata(strata: list[str]) -> None:
    """Raise `BadRequest` (`bad_strata`) unless these are properties by which devices can be divided."""
    unknown = [name for name in strata if name not in PROPERTIES and not is_tag_prefix(name)]
    if unknown or len(strata) > MAX_STRATA:
        names = ", ".join(PROPERTIES)
        raise BadRequest(
            "bad_strata",
            f"Name at most {MAX_STRATA} properties: {names}, or {TAG_PREFIX}PREFIX for the tag with that prefix.",
        )


def stratum_sql(strata: list[str], product: str) -> Sql:
    """Return the SQL of a device's stratum: the values of these properties, such as `edge | site-berlin`."""
    if not strata:
        return Sql("''", {})
    values: dict[str, Any] = {"stratum_product": product}
    expressions = []
    for number, name in enumerate(strata):
        if name in PROPERTIES:
            expressions.append(PROPERTIES[name])
        else:
            values[f"stratum_tag_{number}"] = name.removeprefix(TAG_PREFIX)
            expressions.append(_TAG.format(number=number))
    return Sql(f"left(concat_ws(' | ', {', '.join(expressions)}), 200)", values)
