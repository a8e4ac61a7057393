"""Whether this control plane can do its work: what stops heartbeats is `failing`, what stops less is `degraded`."""

from dataclasses import dataclass

from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from bundles.storage import blobs
from kernex.errors import ApiError


@dataclass(frozen=True, slots=True)
class Finding:
    """One part that is not as it should be. `mend` is the command or step that helps."""

    part: str
    problem: str
    mend: str
    stops_heartbeats: bool


def findings() -> list[Finding]:
    """What is wrong right now; empty when all is well. Never raises for a backend that is away."""
    database = _database()
    return [database] if database else [*_schema(), *_storage()]


def _database() -> Finding | None:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as error:
        first = str(error).strip().partition("\n")[0]
        return Finding(
            "database", f"The database cannot be reached: {first}", "Check DATABASE_URL and the server.", True
        )
    return None


def _schema() -> list[Finding]:
    """Grants come before migrations: without them there is nothing to migrate."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT has_schema_privilege('public', 'USAGE'), has_schema_privilege('public', 'CREATE')")
            usage, create = cursor.fetchone()
        executor = MigrationExecutor(connection)
        waiting = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError as error:
        return [Finding("grants", str(error).strip().partition("\n")[0], "python manage.py grant_perms", True)]
    if not usage or (waiting and not create):
        return [Finding("grants", "permission denied for schema public", "python manage.py grant_perms", True)]
    if waiting:
        return [Finding("migrations", f"{len(waiting)} migrations are not applied.", "python manage.py migrate", True)]
    return []


def _storage() -> list[Finding]:
    try:
        blobs().has_room_for(0)
    except (OSError, ApiError) as error:
        return [Finding("storage", str(error), "Check STORAGE_DIR: downloads and uploads wait until then.", False)]
    return []
