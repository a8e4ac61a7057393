"""The cost of a heartbeat for PostgreSQL with 100,000 devices, counted in PostgreSQL's log."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
import pytest
import requests
from nacl.signing import SigningKey
from psycopg import sql

from dev.postgres import APP, Postgres
from devices.heartbeat import EXPLAIN, RECORD, RECORD_AND_ACKNOWLEDGE, RECORD_AND_END
from tests.devices.own_server import own_server
from tests.devices.signing import heartbeat_body, key_text, sign
from tests.live import Live

DEVICES = 100_000
FILL = """
INSERT INTO devices_group (id, name, description, interval_seconds, created_at)
SELECT gen_random_uuid(), 'g' || n, '', 60, now() FROM generate_series(1, 50) AS n;
INSERT INTO devices_device (
    id, public_key, state, name, group_id, tags, registered_at, device_type, hardware, attributes, attributes_version,
    agent_version, status, metrics, running_bundles, sequence, heartbeat_sha256, boot_id, previous_boot_id,
    boot_alternations, reported_health, noted_health
)
SELECT md5(n::text)::uuid, left(encode(sha256(n::text::bytea), 'hex'), 42) || 'A', 'accepted', 'device ' || n,
       groups[1 + n %% 50], '{}', now(), 'edge', '{}', '{}', 0, '', '', '{}', '{}', 0, '', '', '', 0,
       'healthy', 'healthy'
FROM generate_series(1, %(devices)s) AS n, (SELECT array_agg(id) AS groups FROM devices_group) AS g;
INSERT INTO devices_command (device_id, kind, payload, created_at, acknowledged_at)
SELECT id, 'deploy', '{}', now(), now() FROM devices_device;
INSERT INTO devices_heartbeatsample (device_id, at, status, metrics) SELECT id, now(), '', '{}' FROM devices_device;
UPDATE devices_device SET public_key = %(public_key)s WHERE id = md5('1')::uuid;
"""
STATEMENT = re.compile(r"LOG:  (?:statement|execute [^:]*): (.*)")
DEVICE_ID = UUID("c4ca4238-a0b9-2382-0dcc-509a6f75849b")  # md5('1')


@dataclass
class Fleet:
    """A control plane with many devices, whose PostgreSQL logs every statement. `key` belongs to one device."""

    postgres: Postgres
    live: Live
    key: SigningKey
    sequence: int = 0

    @property
    def log(self) -> str:
        return (self.postgres.directory / "postgres.log").read_text(errors="replace")

    def heartbeat(self, **changes: Any) -> requests.Response:
        self.sequence += 1
        path, body = f"/api/v1/devices/{DEVICE_ID}/heartbeat", json.dumps(heartbeat_body(**changes)).encode()
        headers = sign(self.key, "POST", f"127.0.0.1:{self.live.port}", path, body, sequence=self.sequence)
        headers["Content-Type"] = "application/json"
        return requests.post(self.live.url + path, data=body, headers=headers, timeout=10)

    def warm_up(self) -> None:
        """Send heartbeats until each worker has run the query about types that Django runs once per process."""
        for _ in range(300):
            assert self.heartbeat().status_code == 200
            if self.log.count("typname = 'citext'") >= self.live.workers:
                return
        raise AssertionError("one worker gets all heartbeats")

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.postgres.app_url, autocommit=True)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    directory = tmp_path_factory.mktemp("fleet")
    key = SigningKey.generate()
    with own_server(directory, HEARTBEAT_LIMIT_SECONDS="0") as (postgres, live):
        with psycopg.connect(postgres.app_url, autocommit=True, cursor_factory=psycopg.ClientCursor) as app:
            app.execute(FILL, {"devices": DEVICES, "public_key": key_text(key)})
        with psycopg.connect(postgres.superuser_url, autocommit=True) as superuser:
            superuser.execute(sql.SQL("ALTER ROLE {} SET log_statement = 'all'").format(sql.Identifier(APP)))
        live.start_web()
        yield Fleet(postgres, live, key)


def statements(log: str) -> list[str]:
    """Return the logged statements, without the empty queries with which the pool checks a connection."""
    return [text for text in STATEMENT.findall(log) if text]


def test_an_idle_heartbeat_is_one_statement_on_the_wire(fleet: Fleet) -> None:
    fleet.warm_up()
    before = len(fleet.log)
    for _ in range(20):
        response = fleet.heartbeat()
        assert response.json() == {"state": "accepted", "interval_seconds": 60, "commands": []}
    logged = statements(fleet.log[before:])
    assert len(logged) == 20
    assert all(text.startswith("WITH asynchronous_commit AS MATERIALIZED (SELECT set_config(") for text in logged)
    checks = [text for text in STATEMENT.findall(fleet.log[before:]) if not text]
    assert len(checks) == 20


def test_a_heartbeat_with_acknowledgements_is_one_statement(fleet: Fleet) -> None:
    with fleet.connect() as connection:
        rows = connection.execute(
            "INSERT INTO devices_command (device_id, kind, payload, created_at) VALUES (%s, 'cancel', '{}', now()) "
            "RETURNING id",
            [DEVICE_ID],
        ).fetchone()
    assert rows is not None
    before = len(fleet.log)
    assert [command["id"] for command in fleet.heartbeat().json()["commands"]] == [rows[0]]
    assert fleet.heartbeat(acknowledged_commands=[rows[0]]).json()["commands"] == []
    assert len(statements(fleet.log[before:])) == 2


def test_a_statement_is_planned_once_per_connection(fleet: Fleet) -> None:
    fleet.warm_up()
    before = len(fleet.log)
    for _ in range(100):
        assert fleet.heartbeat().status_code == 200
    assert len(re.findall(r"LOG:  execute _pg3_\d+: WITH asynchronous_commit", fleet.log[before:])) >= 60


def plan_of(fleet: Fleet, statement: str, values: Any) -> list[dict[str, Any]]:
    """Return the nodes of PostgreSQL's plan for a statement."""
    with psycopg.connect(fleet.postgres.app_url, cursor_factory=psycopg.ClientCursor) as connection:
        row = connection.execute(b"EXPLAIN (FORMAT JSON) " + statement.encode(), values).fetchone()
        assert row is not None
        connection.rollback()
    return nodes_of(row[0])


def nodes_of(plan: Any) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = []
    unvisited = [plan[0]["Plan"]]
    while unvisited:
        nodes.append(unvisited.pop())
        unvisited += nodes[-1].get("Plans", [])
    return nodes


def scanned(nodes: list[dict[str, Any]]) -> set[str]:
    """Return the tables that are scanned sequentially."""
    return {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"}


VALUES = {
    "device_id": DEVICE_ID, "public_key": "A" * 43, "sequence": 10**6, "sha256": "", "sample_seconds": 900,
    "agent_version": "1", "status": "idle", "metrics": "{}", "running_bundles": "{}", "boot_id": "b",
    "running_sha256": "", "health": "healthy",
    "limit_seconds": 1, "burst_seconds": 19,
    "acknowledged": [1, 2], "ended": [3, 4], "outcomes": ["done", "failed"], "outcome_messages": ["", "x"],
}  # fmt: skip


@pytest.mark.parametrize("analysed", [False, True])
@pytest.mark.parametrize(
    ("statement", "values"),
    [(RECORD, VALUES), (RECORD_AND_ACKNOWLEDGE, VALUES), (RECORD_AND_END, VALUES), (EXPLAIN, ["A" * 43])],
    ids=["idle", "acknowledging", "ending", "explaining"],
)
def test_it_scans_no_table(fleet: Fleet, statement: str, values: Any, analysed: bool) -> None:
    if analysed:
        with fleet.connect() as connection:
            connection.execute("ANALYZE")
    nodes = plan_of(fleet, statement, values)
    assert scanned(nodes) <= {"devices_group"}
    assert {node["Relation Name"] for node in nodes if "Index" in node["Node Type"] and "Relation Name" in node} >= {
        "devices_device",
        "devices_command",
    }


@pytest.mark.parametrize(
    "statement", [RECORD, RECORD_AND_ACKNOWLEDGE, RECORD_AND_END], ids=["idle", "acknowledging", "ending"]
)
def test_the_generic_plan_scans_no_table(fleet: Fleet, statement: str) -> None:
    """PostgreSQL uses this plan, whatever the values, once it has prepared the statement."""
    numbers = {name: f"${number}" for number, name in enumerate(VALUES, 1)}
    text = re.sub(r"%\((\w+)\)s", lambda match: numbers[match[1]], statement)
    with fleet.connect() as connection:
        if connection.info.server_version < 160_000:
            pytest.skip("PostgreSQL explains generic plans from version 16 on")
        row = connection.execute(b"EXPLAIN (GENERIC_PLAN, FORMAT JSON) " + text.encode()).fetchone()
    assert row is not None
    assert scanned(nodes_of(row[0])) <= {"devices_group"}


def test_heartbeats_update_rows_inside_their_page(fleet: Fleet) -> None:
    """HOT updates add no index entries: tables and indexes do not grow with the heartbeats."""
    with psycopg.connect(fleet.postgres.app_url, autocommit=True, cursor_factory=psycopg.ClientCursor) as connection:
        keys = connection.execute("SELECT id, public_key FROM devices_device ORDER BY ctid LIMIT 2000").fetchall()
        before, size = updates(connection), index_size(connection)
        for sequence in (10**7, 10**7 + 1, 10**7 + 2):
            for device_id, public_key in keys:
                values = VALUES | {"device_id": device_id, "public_key": public_key, "sequence": sequence}
                connection.execute(RECORD.encode(), values | {"metrics": json.dumps({"n": sequence})})
        after = updates(connection)
        assert index_size(connection) == size
    updated, hot = after[0] - before[0], after[1] - before[1]
    assert updated >= 3 * len(keys)
    assert hot / updated > 0.95


def updates(connection: psycopg.Connection[Any]) -> tuple[int, int]:
    """Return how many rows of devices were updated, and how many of them inside their page."""
    connection.execute("SELECT pg_stat_force_next_flush()")
    time.sleep(0.1)
    row = connection.execute(
        "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'devices_device'"
    ).fetchone()
    assert row is not None
    return row[0], row[1]


def index_size(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute("SELECT pg_indexes_size('devices_device')").fetchone()
    assert row is not None
    size: int = row[0]
    return size
