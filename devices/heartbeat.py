"""The heartbeat: one SQL statement that stores a device's report and reads the response to it.

1. The signature is verified. Nothing has touched the database yet.
2. One UPDATE stores the report if the device is accepted, its sequence number is new and its rate limit allows it.
   The same statement keeps a sample for the history when one is due, acknowledges and ends commands, and reads the open
   commands and the group's interval.
3. If the UPDATE changed no row, a second query finds out why: the device is unknown, pending or decommissioned; the
   identical heartbeat was stored before (it gets a normal response); its sequence number was used or is too
   high; or the device sends too often.

The rate limit is GCRA: each heartbeat moves `heartbeat_due_at` forward by `HEARTBEAT_LIMIT_SECONDS`, and a heartbeat is
refused when that time is too far ahead for `HEARTBEAT_LIMIT_BURST` heartbeats at once.

The statement commits asynchronously: a crash of the database may lose the last heartbeats, but never part of one.
Losing an acknowledgement or an outcome is safe, because devices repeat outcomes and keep the ids of commands in their
journal.
"""

from dataclasses import dataclass
from math import ceil
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.db.backends.postgresql.base import ServerBindingCursor
from django.db.backends.utils import CursorWrapper

from devices.authentication import refusal, unknown_device
from devices.heartbeat_message import HeartbeatReport
from devices.models import DeviceState
from devices.models.command import OFFERED_AT_ONCE
from devices.models.device import CLONE_ALTERNATIONS
from devices.signatures import MAX_SEQUENCE, VerifiedSignature
from foundation.errors import BadRequest, Conflict, TooManyRequests, Unavailable
from foundation.events.models import record_event

# A heartbeat may skip at most this many sequence numbers.
MAX_SEQUENCE_JUMP = 2**32
# Higher numbers are refused: a device that reaches them must enrol again.
LAST_SEQUENCE = MAX_SEQUENCE + 1 - 2**20
# One device writes at most one event about a cloned key in this time.
CLONE_EVENT_SECONDS = 3600

# `set_config(…, is_local)` lasts for this statement's transaction: no second round trip, no second connection.
_RECORD = f"""WITH asynchronous_commit AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)),
device AS (
    UPDATE devices_device AS device SET
        sequence = %(sequence)s::bigint,
        heartbeat_sha256 = %(sha256)s::text,
        last_heartbeat_at = statement_timestamp(),
        heartbeat_due_at = greatest(device.heartbeat_due_at, statement_timestamp())
                           + make_interval(secs => %(limit_seconds)s::float8),
        sampled_at = CASE WHEN device.sampled_at
                               > statement_timestamp() - make_interval(secs => %(sample_seconds)s::float8)
                          THEN device.sampled_at ELSE statement_timestamp() END,
        agent_version = %(agent_version)s::text,
        status = %(status)s::text,
        metrics = %(metrics)s::jsonb,
        running_changed_at = CASE WHEN device.running_sha256 = %(running_sha256)s::text
                                  THEN device.running_changed_at ELSE statement_timestamp() END,
        running_sha256 = %(running_sha256)s::text,
        running_bundles = %(running_bundles)s::jsonb,
        health_changed_at = CASE WHEN device.reported_health = %(health)s::text
                                 THEN device.health_changed_at ELSE statement_timestamp() END,
        reported_health = %(health)s::text,
        boot_id = %(boot_id)s::text,
        previous_boot_id = CASE WHEN device.boot_id = %(boot_id)s::text
                                THEN device.previous_boot_id ELSE device.boot_id END,
        boot_alternations = CASE WHEN device.boot_id = %(boot_id)s::text THEN device.boot_alternations
                                 WHEN device.previous_boot_id = %(boot_id)s::text THEN device.boot_alternations + 1
                                 ELSE 0 END,
        clone_noted_at = CASE WHEN device.boot_id <> %(boot_id)s::text AND device.previous_boot_id = %(boot_id)s::text
                                   AND device.boot_alternations + 1 = {CLONE_ALTERNATIONS}
                                   AND (device.clone_noted_at IS NULL OR device.clone_noted_at
                                        < statement_timestamp() - make_interval(secs => {CLONE_EVENT_SECONDS}))
                              THEN statement_timestamp() ELSE device.clone_noted_at END
    FROM asynchronous_commit, devices_group AS "group"
    WHERE device.id = %(device_id)s::uuid AND device.public_key = %(public_key)s::text AND device.state = 'accepted'
      AND device.sequence < %(sequence)s::bigint AND device.sequence >= %(sequence)s::bigint - {MAX_SEQUENCE_JUMP}
      AND (device.heartbeat_due_at IS NULL OR device.heartbeat_due_at
           <= statement_timestamp() + make_interval(secs => %(burst_seconds)s::float8))
      AND "group".id = device.group_id
    RETURNING device.id, "group".interval_seconds, device.sampled_at = statement_timestamp() AS is_sample,
              coalesce(device.clone_noted_at = statement_timestamp(), false) AS is_new_clone
),
sample AS (
    INSERT INTO devices_heartbeatsample (device_id, at, status, metrics)
    SELECT id, statement_timestamp(), %(status)s::text, %(metrics)s::jsonb FROM device WHERE is_sample
){{command_updates}}
SELECT interval_seconds, is_new_clone, {{commands}} FROM device
"""  # noqa: S608

_ACKNOWLEDGE = """,
acknowledged AS (
    UPDATE devices_command AS command SET acknowledged_at = statement_timestamp() FROM device
    WHERE command.id = ANY(%(acknowledged)s::bigint[]) AND command.device_id = device.id
      AND command.acknowledged_at IS NULL
)"""

# The two UPDATEs touch different rows: PostgreSQL applies only one of two changes of a row in one statement.
_ACKNOWLEDGE_AND_END = """,
acknowledged AS (
    UPDATE devices_command AS command SET acknowledged_at = statement_timestamp() FROM device
    WHERE command.id = ANY(%(acknowledged)s::bigint[]) AND command.id <> ALL(%(ended)s::bigint[])
      AND command.device_id = device.id AND command.acknowledged_at IS NULL
),
ended AS (
    UPDATE devices_command AS command SET
        acknowledged_at = coalesce(command.acknowledged_at, statement_timestamp()),
        ended_at = statement_timestamp(),
        outcome = reported.outcome,
        outcome_message = reported.message
    FROM device, unnest(%(ended)s::bigint[], %(outcomes)s::text[], %(outcome_messages)s::text[])
                 AS reported (id, outcome, message)
    WHERE command.id = reported.id AND command.device_id = device.id AND command.ended_at IS NULL
)"""

_COMMANDS = """(
    SELECT coalesce(json_agg(json_build_object('id', id, 'kind', kind, 'payload', payload) ORDER BY id), '[]')
    FROM (
        SELECT command.id, kind, payload FROM devices_command AS command
        WHERE command.device_id = device.id AND acknowledged_at IS NULL AND withdrawn_at IS NULL {exclusion}
        ORDER BY command.id LIMIT {limit}
    ) AS offered
) AS commands"""


def _open_commands(*handled: str) -> str:
    """Return SQL for the open commands, except those whose ids are in the named parameters.

    A statement does not see its own changes, so the commands that it acknowledges are excluded by id.
    """
    exclusion = " ".join(f"AND command.id <> ALL(%({name})s::bigint[])" for name in handled)
    return _COMMANDS.format(exclusion=exclusion, limit=OFFERED_AT_ONCE)


def _statement(command_updates: str, *handled: str) -> str:
    """Return the statement on one line: psycopg caches only parsed statements of at most 4,096 characters."""
    return " ".join(_RECORD.format(command_updates=command_updates, commands=_open_commands(*handled)).split())


RECORD = _statement("")
RECORD_AND_ACKNOWLEDGE = _statement(_ACKNOWLEDGE, "acknowledged")
RECORD_AND_END = _statement(_ACKNOWLEDGE_AND_END, "acknowledged", "ended")

EXPLAIN = f"""SELECT device.id, device.state, sequence, heartbeat_sha256, interval_seconds,
       extract(epoch FROM heartbeat_due_at - statement_timestamp())::float8 AS due_in_seconds, {_open_commands()}
FROM devices_device AS device JOIN devices_group AS "group" ON "group".id = device.group_id
WHERE device.public_key = %s::text
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class HeartbeatReply:
    """The response to a heartbeat: commands, oldest first, and when to send the next heartbeat."""

    state: str
    interval_seconds: int
    commands: list[dict[str, Any]]


def record(device_id: UUID, signature: VerifiedSignature, report: HeartbeatReport) -> HeartbeatReply:
    """Store one heartbeat and return the response to it.

    Raises:
        BadRequest: `sequence_jump`, the sequence number leaves no room for later ones.
        NotSigned: `unknown_device`, no device has this id and key.
        Forbidden: `decommissioned`.
        Conflict: `sequence_used`, with `next_sequence`, the lowest number that is still free.
        TooManyRequests: `throttled`.
        Unavailable: `busy`, the device's row changed several times meanwhile.
    """
    if signature.sequence is None or signature.sequence > LAST_SEQUENCE:
        raise _sequence_jump()
    for _ in range(3):
        reply = _record(device_id, signature, report) or _explain(device_id, signature)
        if reply is not None:
            return reply
    raise Unavailable("busy", "The device's state is changing right now; send the same heartbeat again.")


def _record(device_id: UUID, signature: VerifiedSignature, report: HeartbeatReport) -> HeartbeatReply | None:
    """Run the one statement. None if it stored nothing."""
    with _cursor() as cursor:
        cursor.execute(_statement_for(report), _values(device_id, signature, report))
        row = cursor.fetchone()
    if row is None:
        return None
    interval_seconds, is_new_clone, commands = row
    if is_new_clone:
        _record_clone(device_id, report.boot_id)
    return HeartbeatReply(DeviceState.ACCEPTED.value, interval_seconds, commands)


def _statement_for(report: HeartbeatReport) -> str:
    if report.command_outcomes:
        return RECORD_AND_END
    return RECORD_AND_ACKNOWLEDGE if report.acknowledged_commands else RECORD


def _values(device_id: UUID, signature: VerifiedSignature, report: HeartbeatReport) -> dict[str, Any]:
    # If a command has several outcomes, the first one is stored, as if the others had arrived later.
    outcomes = {outcome.command_id: outcome for outcome in reversed(report.command_outcomes)}
    return {
        "device_id": device_id,
        "public_key": signature.public_key,
        "sequence": signature.sequence,
        "sha256": signature.sha256,
        "sample_seconds": settings.HEARTBEAT_SAMPLE_SECONDS,
        "limit_seconds": settings.HEARTBEAT_LIMIT_SECONDS,
        "burst_seconds": _burst_seconds(),
        "agent_version": report.agent_version,
        "status": report.status,
        "metrics": report.metrics,
        "running_bundles": report.running_bundles,
        "running_sha256": report.running_sha256,
        "health": report.health,
        "boot_id": report.boot_id,
        "acknowledged": report.acknowledged_commands,
        "ended": list(outcomes),
        "outcomes": [outcome.outcome for outcome in outcomes.values()],
        "outcome_messages": [outcome.message for outcome in outcomes.values()],
    }


def _burst_seconds() -> int:
    """Return how far ahead `heartbeat_due_at` may be when a heartbeat arrives."""
    limit_seconds: int = settings.HEARTBEAT_LIMIT_SECONDS
    return limit_seconds * (settings.HEARTBEAT_LIMIT_BURST - 1)


def _cursor() -> CursorWrapper:
    """Return a cursor whose statements PostgreSQL plans once per connection: planning is most of their cost.

    Where prepared statements are switched off, as behind PgBouncer, return an ordinary one.
    """
    connection.ensure_connection()
    if connection.connection.prepare_threshold is None:
        return connection.cursor()
    # Django's wrappers around a cursor that binds parameters on the server. Statements are prepared only then.
    cursor: Any = ServerBindingCursor(connection.connection)  # type: ignore[call-arg]
    return connection.make_debug_cursor(cursor) if connection.queries_logged else connection.make_cursor(cursor)


def _explain(device_id: UUID, signature: VerifiedSignature) -> HeartbeatReply | None:
    """Find out why the statement stored nothing. None if it would store the heartbeat now."""
    with connection.cursor() as cursor:
        cursor.execute(EXPLAIN, [signature.public_key])
        row = cursor.fetchone()
    if row is None or row[0] != device_id:
        raise unknown_device()
    _, state, last_sequence, sha256, interval_seconds, due_in_seconds, commands = row
    if state == DeviceState.PENDING:
        return HeartbeatReply(state, interval_seconds, [])
    if state == DeviceState.DECOMMISSIONED:
        raise refusal(state)
    if sha256 == signature.sha256:
        return HeartbeatReply(state, interval_seconds, commands)
    _check_sequence(signature.sequence or 0, last_sequence)
    wait_seconds = (due_in_seconds or 0) - _burst_seconds()
    if wait_seconds > 0:
        raise TooManyRequests("throttled", "This device sends heartbeats too often.", ceil(wait_seconds))
    return None


def _check_sequence(sequence: int, last_sequence: int) -> None:
    """Raise if a sequence number may not follow the last one."""
    if sequence <= last_sequence:
        raise Conflict(
            "sequence_used",
            "This sequence number was used; continue with `next_sequence`.",
            next_sequence=last_sequence + 1,
        )
    if sequence - last_sequence > MAX_SEQUENCE_JUMP:
        raise _sequence_jump()


def _sequence_jump() -> BadRequest:
    return BadRequest(
        "sequence_jump",
        f"Kernex-Sequence is more than {MAX_SEQUENCE_JUMP} above the last one, or above {LAST_SEQUENCE}.",
    )


def _record_clone(device_id: UUID, boot_id: str) -> None:
    record_event(
        "device.cloned",
        "The boot ids of this device's heartbeats alternate: two machines seem to use its key.",
        actor="device",
        device=device_id,
        boot_id=boot_id,
    )
