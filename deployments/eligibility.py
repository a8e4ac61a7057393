"""Which devices a deployment selects, which of them can take part, and why the others cannot.

Planning and previews ask the same statement, so that they agree. `device` is the alias of the device's table.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection

from bundles.manifest import parse
from bundles.models import Bundle
from deployments.models import SelectedDevices
from deployments.phases.strata import Sql, stratum_sql
from deployments.states import UNFINISHED_STATES
from devices.queries.filtering import condition_of

# Inner queries with LIMIT keep their plan even when statistics are stale.
_SELECTED_GROUP_SIZE = """
SELECT count(*) FROM (SELECT FROM devices_device WHERE group_id = ANY(%(groups)s) LIMIT %(size)s + 1) AS devices
"""
_SMALL_WINDOW = """
    SELECT id FROM devices_device
    WHERE group_id = ANY(%(groups)s) AND (%(after)s::uuid IS NULL OR id > %(after)s)
    UNION
    SELECT id FROM devices_device
    WHERE id = ANY(%(devices)s) AND (%(after)s::uuid IS NULL OR id > %(after)s)
    ORDER BY id LIMIT %(size)s
"""
_LARGE_WINDOW = """
    SELECT id FROM devices_device
    WHERE id > coalesce(%(after)s::uuid, '00000000-0000-0000-0000-000000000000')
    ORDER BY id LIMIT %(size)s
"""
# A decommissioned device counts as skipped only if the operator named it.
_JUDGED = """
visited AS MATERIALIZED ({window}),
selected AS (
    SELECT device.id, device.group_id, device.last_heartbeat_at,
        device.running_bundles -> %(product)s AS running,
        {stratum} AS stratum,
        CASE
            WHEN ({exclude}) IS TRUE THEN 'excluded'
            WHEN device.state = 'decommissioned' THEN 'decommissioned'
            WHEN device.state <> 'accepted' THEN 'not_accepted'
            WHEN NOT (cardinality(%(device_types)s::text[]) = 0 OR device.device_type = ANY(%(device_types)s))
                THEN 'wrong_device_type'
            WHEN jsonb_typeof(device.hardware -> 'memory') = 'number'
                AND (device.hardware -> 'memory')::numeric BETWEEN 1 AND %(memory)s - 1 THEN 'no_memory'
            WHEN jsonb_typeof(device.metrics -> 'disk_free') = 'number'
                AND (device.metrics -> 'disk_free')::numeric < %(disk)s THEN 'no_space'
            ELSE ''
        END AS reason
    FROM visited JOIN devices_device AS device ON device.id = visited.id
    WHERE ((device.group_id = ANY(%(groups)s) OR ({query}) IS TRUE) AND device.state <> 'decommissioned')
       OR device.id = ANY(%(devices)s)
),
judged AS (
    SELECT selected.id, selected.group_id, selected.last_heartbeat_at, selected.stratum,
        coalesce(running ->> 'manifest_sha256', '') AS running_sha256,
        CASE
            WHEN reason <> '' OR running IS NULL THEN reason
            WHEN running ->> 'manifest_sha256' = %(manifest_sha256)s AND running ->> 'healthy' IS DISTINCT FROM 'false'
                AND (
                    SELECT other.id FROM deployments_devicedeployment AS other
                    WHERE other.device_id = selected.id AND other.product = %(product)s
                      AND other.state = ANY(%(unfinished)s) LIMIT 1
                ) IS NULL
                THEN 'already_running'
            WHEN NOT %(allow_downgrade)s AND running ->> 'manifest_sha256' = ANY(%(newer)s) THEN 'newer_running'
            ELSE ''
        END AS reason
    FROM selected
)
"""
_NEWER_RELEASES = """
SELECT manifest_sha256 FROM bundles_bundle WHERE name = %s AND release_counter > %s
"""


@dataclass(frozen=True, slots=True)
class Rules:
    """What decides, besides the selection, whether a device can take part. The times of queries count from `now`."""

    bundle: Bundle
    allow_downgrade: bool
    strata: Sequence[str]
    now: datetime


def judged_devices(selection: SelectedDevices, rules: Rules, size: int) -> Sql:
    """Return the common table expressions of the next batch of devices: `visited`, `selected` and `judged`.

    `visited` has the ids of at most `size` devices after `planned_up_to`. `judged` has those selected, each with the
    `reason` why it cannot take part, or an empty one.

    Raises `BadRequest` (`invalid_query`).
    """
    bundle = rules.bundle
    manifest = parse(bundle.manifest.encode())
    values: dict[str, Any] = {
        "product": bundle.name,
        "manifest_sha256": bundle.manifest_sha256,
        "memory": manifest.memory,
        "disk": manifest.disk,
        "device_types": bundle.device_types,
        "allow_downgrade": rules.allow_downgrade,
        "unfinished": list(UNFINISHED_STATES),
        "groups": selection.groups,
        "devices": selection.devices,
        "canaries": selection.canaries,
        "after": selection.planned_up_to,
        "size": size,
    }
    queries = [text for text in (selection.query, *selection.group_queries) if text]
    query = _any_condition(queries, rules.now)
    exclude = _condition(selection.exclude, "exclude", rules.now)
    stratum = stratum_sql(list(rules.strata), bundle.name)
    values |= query.values | exclude.values | stratum.values
    with connection.cursor() as cursor:
        cursor.execute(_NEWER_RELEASES, [bundle.name, manifest.release_counter])
        values["newer"] = [sha256 for (sha256,) in cursor.fetchall()]
        cursor.execute(_SELECTED_GROUP_SIZE, values)
        is_small = not queries and cursor.fetchone()[0] <= size
    window = _SMALL_WINDOW if is_small else _LARGE_WINDOW
    text = _JUDGED.format(window=window, query=query.text, exclude=exclude.text, stratum=stratum.text)
    return Sql(text, values)


def _any_condition(queries: Sequence[str], now: datetime) -> Sql:
    """Return the SQL that a device matches one of the queries; `false` if there is none."""
    conditions = [_condition(query, f"query_{number}", now) for number, query in enumerate(queries)]
    values = {name: value for condition in conditions for name, value in condition.values.items()}
    return Sql(" OR ".join(f"({condition.text}) IS TRUE" for condition in conditions) or "false", values)


def _condition(query: str, prefix: str, now: datetime) -> Sql:
    """Return the SQL of a query; `false` if it is empty. All batches use the same `now`, so that they agree."""
    if not query:
        return Sql("false", {})
    text, values = condition_of(query, now).sql().named(prefix)
    return Sql(text.replace("{device}", "device"), values)
