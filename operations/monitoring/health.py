"""The health of this control plane: `failing` if heartbeats are refused, `degraded` for lesser problems.

/health is public, so its texts name no host, user or table. The log has the details.
"""

import logging
from dataclasses import dataclass
from functools import cache

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.loader import MigrationLoader

from bundles.storage.interface import blobs
from deployments.models import Hold
from foundation.errors import ApiError
from foundation.scheduler import holder
from operations.database.postgres_errors import meaning
from operations.database.runtime_role import ADDED_TO, READ
from operations.database.tables import own_tables

logger = logging.getLogger(__name__)

GRANT = "python manage.py grant_perms"
MIGRATE = "python manage.py migrate"
SCHEDULE = "python manage.py run_scheduler"
RELEASE = "python manage.py release_deployments"
# The privileges that Kernex cannot work without, and whether migrations have ever run.
_PRIVILEGES = """
    SELECT has_schema_privilege('public', 'USAGE'), has_schema_privilege('public', 'CREATE'),
        (SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname = ANY(%s)
            AND NOT (has_table_privilege(oid, 'SELECT')
                     AND (relname = ANY(%s) OR has_table_privilege(oid, 'INSERT'))
                     AND (relname = ANY(%s)
                          OR has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE')))),
        EXISTS (SELECT FROM pg_tables WHERE schemaname = 'public' AND tablename = 'django_migrations'),
        EXISTS (SELECT FROM pg_tables WHERE schemaname = 'public' AND tablename = 'django_migrations'
                AND tableowner <> current_user)
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem of one part of the installation. `fix` is the command or advice that solves it."""

    part: str
    problem: str
    fix: str
    stops_heartbeats: bool = True


def findings() -> list[Finding]:
    """Return the current problems. Does not raise if the database or storage is unavailable."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(_PRIVILEGES, [[*own_tables()], [*READ], [*READ, *ADDED_TO]])
            uses, creates, unusable, is_migrated, is_runtime_role = cursor.fetchone()
            applied: set[tuple[str, str]] = set()
            if uses and is_migrated and not unusable:
                cursor.execute("SELECT app, name FROM django_migrations")
                applied = set(cursor.fetchall())
    except DatabaseError as error:
        return [_unreachable(error), *_storage()]
    waiting = len(migrations() - applied)
    if not uses or unusable or (waiting and not creates and not is_runtime_role):
        return [Finding("grants", _grants_problem(unusable), GRANT), *_storage()]
    if waiting:
        problem = "One migration is not applied." if waiting == 1 else f"{waiting} migrations are not applied."
        return [Finding("migrations", problem, MIGRATE), *_storage()]
    return [*_blocked_deployments(), *_storage()]


def _blocked_deployments() -> list[Finding]:
    """Return what stops deployments but not heartbeats."""
    problems = []
    try:
        if holder() is None:
            problem = "No scheduler is running: deployments, uploads and deadlines wait."
            problems.append(Finding("scheduler", problem, SCHEDULE, stops_heartbeats=False))
        hold = Hold.objects.active().first()
        if hold is not None:
            problems.append(Finding("deployments", f"Deployments are {hold}.", RELEASE, stops_heartbeats=False))
    except DatabaseError as error:
        return [_unreachable(error)]
    return problems


def _grants_problem(unusable: int) -> str:
    if unusable:
        return f"The database role lacks rights on {'one table' if unusable == 1 else f'{unusable} tables'}."
    return "The database role may not create tables in schema public (permission denied for schema public)."


def _unreachable(error: DatabaseError) -> Finding:
    logger.warning("the database cannot be reached: %s", str(error).strip().partition("\n")[0])
    return Finding("database", f"The database cannot be used: {meaning(error)}.", "Check DATABASE_URL and the server.")


@cache
def migrations() -> frozenset[tuple[str, str]]:
    """Return all migrations of this release as (app label, name)."""
    return frozenset(MigrationLoader(None).graph.nodes)


def _storage() -> list[Finding]:
    try:
        is_usable = blobs().has_space_for(0)
    except (OSError, ApiError) as error:
        logger.warning("bundle storage cannot be used: %s", error)
        is_usable = False
    if is_usable:
        return []
    fix = (
        "Check STORAGE_BUCKET, STORAGE_ENDPOINT_URL and the access key."
        if settings.STORAGE_BUCKET
        else "Check STORAGE_DIR."
    )
    return [
        Finding("storage", "Bundle storage cannot be used: uploads and downloads wait.", fix, stops_heartbeats=False)
    ]
