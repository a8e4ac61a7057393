"""The heartbeat: what a device says every interval, taken in one SQL statement that also answers it.

1. The signature is verified; nothing has touched the database yet.
2. One UPDATE takes the message if the device is accepted and the sequence number is new. The same statement keeps a
   sample for the history when one is due, acknowledges commands, and reads the open ones and the group's interval.
3. If it took nothing, a second query says why: unknown, pending, decommissioned, the identical message again (which
   is answered as the first time), or a used sequence number.

The statement commits asynchronously: a crash of the database may forget the last heartbeats, never tear one. A
forgotten acknowledgement is harmless, for devices journal the ids of commands.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.db.backends.postgresql.base import ServerBindingCursor
from django.db.backends.utils import CursorWrapper

from devices.authentication import refusal, unknown_device
from devices.commands import OFFERED_AT_ONCE
from devices.heartbeat_message import Heartbeat
from devices.models import CLONE_ALTERNATIONS, DeviceState
from devices.signatures import SignedRequest
from foundation.errors import Conflict, Unavailable
from foundation.events.models import record_event

# `set_config(…, is_local)` lasts for this statement's transaction: no second round trip, no second connection.
_TAKE = """WITH quick AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)),
taken AS (
    UPDATE devices_device AS device SET
        sequence = %(sequence)s::bigint,
        heartbeat_sha256 = %(sha256)s::text,
        last_heartbeat_at = statement_timestamp(),
        sampled_at = CASE WHEN device.sampled_at
                               > statement_timestamp() - make_interval(secs => %(sample_seconds)s::float8)
                          THEN device.sampled_at ELSE statement_timestamp() END,
        agent_version = %(agent_version)s::text,
        status = %(status)s::text,
        metrics = %(metrics)s::jsonb,
        running_changed_at = CASE WHEN device.running_bundles = %(running_bundles)s::jsonb
                                  THEN device.running_changed_at ELSE statement_timestamp() END,
        running_bundles = %(running_bundles)s::jsonb,
        boot_id = %(boot_id)s::text,
        previous_boot_id = CASE WHEN device.boot_id = %(boot_id)s::text
                                THEN device.previous_boot_id ELSE device.boot_id END,
        boot_alternations = CASE WHEN device.boot_id = %(boot_id)s::text THEN device.boot_alternations
                                 WHEN device.previous_boot_id = %(boot_id)s::text THEN device.boot_alternations + 1
                                 ELSE 0 END
    FROM quick, devices_group AS "group"
    WHERE device.id = %(device_id)s::uuid AND device.public_key = %(public_key)s::text AND device.state = 'accepted'
      AND device.sequence < %(sequence)s::bigint AND "group".id = device.group_id
    RETURNING device.id, "group".interval_seconds, device.boot_alternations,
              device.sampled_at = statement_timestamp() AS is_sample
),
sampled AS (
    INSERT INTO devices_heartbeatsample (device_id, at, status, metrics)
    SELECT id, statement_timestamp(), %(status)s::text, %(metrics)s::jsonb FROM taken WHERE is_sample
){acknowledge}
SELECT interval_seconds, boot_alternations, {commands} FROM taken
"""

_ACKNOWLEDGE = """,
acknowledged AS (
    UPDATE devices_command AS command SET acknowledged_at = statement_timestamp() FROM taken
    WHERE command.id = ANY(%(acknowledged)s::bigint[]) AND command.device_id = taken.id
      AND command.acknowledged_at IS NULL
)"""

_COMMANDS = """(
    SELECT coalesce(json_agg(json_build_object('id', id, 'kind', kind, 'payload', payload) ORDER BY id), '[]')
    FROM (
        SELECT command.id, kind, payload FROM devices_command AS command
        WHERE command.device_id = {device}.id AND acknowledged_at IS NULL AND withdrawn_at IS NULL {but}
        ORDER BY command.id LIMIT {limit}
    ) AS offered
) AS commands"""

_BUT_ACKNOWLEDGED = "AND command.id <> ALL(%(acknowledged)s::bigint[])"


def _open_commands(device: str, but: str = "") -> str:
    return _COMMANDS.format(device=device, but=but, limit=OFFERED_AT_ONCE)


TAKE = _TAKE.format(acknowledge="", commands=_open_commands("taken"))
TAKE_AND_ACKNOWLEDGE = _TAKE.format(acknowledge=_ACKNOWLEDGE, commands=_open_commands("taken", _BUT_ACKNOWLEDGED))

EXPLAIN = f"""SELECT device.id, device.state, sequence, heartbeat_sha256, interval_seconds, {_open_commands("device")}
FROM devices_device AS device JOIN devices_group AS "group" ON "group".id = device.group_id
WHERE device.public_key = %s::text
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Answer:
    """What a heartbeat is answered: commands in order, oldest first, and when to come back."""

    state: str
    interval_seconds: int
    commands: list[dict[str, Any]]


def take(device_id: UUID, proof: SignedRequest, heartbeat: Heartbeat) -> Answer:
    """Take one heartbeat.

    Raises:
        NotSigned: `unknown_device`: nobody with this id and key.
        Forbidden: `decommissioned`.
        Conflict: `sequence_used`, with `next_sequence`, the lowest number that is still free.
        Unavailable: the device's state changed under our hands several times.
    """
    for _ in range(3):
        answer = _take(device_id, proof, heartbeat) or _explain(device_id, proof)
        if answer is not None:
            return answer
    raise Unavailable("busy", "The device's state is changing right now; send the same heartbeat again.")


def _take(device_id: UUID, proof: SignedRequest, heartbeat: Heartbeat) -> Answer | None:
    values: dict[str, Any] = {
        "device_id": device_id,
        "public_key": proof.public_key,
        "sequence": proof.sequence,
        "sha256": proof.sha256,
        "sample_seconds": settings.HEARTBEAT_SAMPLE_SECONDS,
        "agent_version": heartbeat.agent_version,
        "status": heartbeat.status,
        "metrics": heartbeat.metrics,
        "running_bundles": heartbeat.running_bundles,
        "boot_id": heartbeat.boot_id,
        "acknowledged": heartbeat.acknowledged_commands,
    }
    with _cursor() as cursor:
        cursor.execute(TAKE_AND_ACKNOWLEDGE if heartbeat.acknowledged_commands else TAKE, values)
        row = cursor.fetchone()
    if row is None:
        return None
    interval_seconds, alternations, commands = row
    # Exactly the threshold, for the counter passes it once; a third boot id starts it again.
    if alternations == CLONE_ALTERNATIONS:
        _note_clone(device_id, heartbeat.boot_id)
    return Answer(DeviceState.ACCEPTED.value, interval_seconds, commands)


def _cursor() -> CursorWrapper:
    """A cursor whose statements PostgreSQL plans once a connection, not each time: planning is most of the cost.

    Where prepared statements are switched off, as behind PgBouncer, an ordinary one.
    """
    connection.ensure_connection()
    if connection.connection.prepare_threshold is None:
        return connection.cursor()
    # Django's wrappers around a cursor that sends values apart from the text, without which nothing is prepared.
    cursor: Any = ServerBindingCursor(connection.connection)  # type: ignore[call-arg]
    return connection.make_debug_cursor(cursor) if connection.queries_logged else connection.make_cursor(cursor)


def _explain(device_id: UUID, proof: SignedRequest) -> Answer | None:
    """Why the statement took nothing. None if by now it would."""
    with connection.cursor() as cursor:
        cursor.execute(EXPLAIN, [proof.public_key])
        row = cursor.fetchone()
    if row is None or row[0] != device_id:
        raise unknown_device()
    _, state, sequence, sha256, interval_seconds, commands = row
    if state == DeviceState.PENDING:
        return Answer(state, interval_seconds, [])
    if state == DeviceState.DECOMMISSIONED:
        raise refusal(state)
    if sha256 == proof.sha256:
        return Answer(state, interval_seconds, commands)
    if sequence >= (proof.sequence or 0):
        raise Conflict(
            "sequence_used", "This sequence number was used; go on with `next_sequence`.", next_sequence=sequence + 1
        )
    return None


def _note_clone(device_id: UUID, boot_id: str) -> None:
    record_event(
        "device.cloned",
        "Two boot ids take turns on this device's key: two machines seem to use it.",
        actor="device",
        device=device_id,
        boot_id=boot_id,
    )
