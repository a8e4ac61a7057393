"""Migrations run beside the previous release. They must never wait for a request that waits for them."""

import re
from pathlib import Path

import pytest
from django.apps import apps
from django.db import connection
from django.db.migrations.loader import MigrationLoader

from tests.live import ROOT

APPS = {
    config.label
    for config in apps.get_app_configs()
    if Path(config.path).is_relative_to(ROOT) and ".venv" not in config.path
}
# Released before this rule. It adds a foreign key to accounts, which few requests write.
RELEASED = {("bundles", "0003_send_archives_to_the_bucket")}
CREATED = re.compile(r'CREATE TABLE "(\w+)"')
LOCKED = re.compile(r'(?:ALTER TABLE|REFERENCES|INDEX "\w+" ON) "(\w+)"')


@pytest.mark.django_db
def test_a_migration_locks_one_table_of_the_previous_release() -> None:
    """A transaction that locks two tables deadlocks with requests that write to them in the other order.

    A table is new if this migration creates it, or one that this migration follows directly.
    """
    loader = MigrationLoader(connection)
    own = {key: migration for key, migration in loader.disk_migrations.items() if key[0] in APPS and migration.atomic}
    sql = {key: "\n".join(loader.collect_sql([(migration, False)])) for key, migration in own.items()}
    created = {key: set(CREATED.findall(text)) for key, text in sql.items()}
    locked = {
        key: set(LOCKED.findall(sql[key])).difference(
            created[key], *(created.get(parent, ()) for parent in migration.dependencies)
        )
        for key, migration in own.items()
        if not key[1].startswith("0001_") and key not in RELEASED
    }
    assert {"devices_device"} in locked.values()
    assert {key: tables for key, tables in locked.items() if len(tables) > 1} == {}
