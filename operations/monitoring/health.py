"""Whether this control plane can do its work: what stops heartbeats is `failing`, what stops less is `degraded`.

Whoever may ask is not known, so what is answered names no host, user or table; the log says more.
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
# The privileges without which the tables are of no use, and which migrations were run here.
_ASK = """
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
    """One part that is not as it should be. `mend` is the command or step that helps."""

    part: str
    problem: str
    mend: str
    stops_heartbeats: bool = True


def findings() -> list[Finding]:
    """What is wrong right now; empty when all is well. Never raises for a backend that is away."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(_ASK, [[*own_tables()], [*READ], [*READ, *ADDED_TO]])
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
    return [*_standing_still(), *_storage()]


def _standing_still() -> list[Finding]:
    """What keeps deployments from going on while heartbeats do."""
    found = []
    try:
        if holder() is None:
            problem = "No scheduler runs: deployments, uploads and deadlines wait."
            found.append(Finding("scheduler", problem, SCHEDULE, stops_heartbeats=False))
        held = Hold.objects.active().first()
        if held is not None:
            found.append(Finding("deployments", f"Deployments are {held}.", RELEASE, stops_heartbeats=False))
    except DatabaseError as error:
        return [_unreachable(error)]
    return found


def _grants_problem(unusable: int) -> str:
    if unusable:
        return f"The database role lacks rights on {'one table' if unusable == 1 else f'{unusable} tables'}."
    return "The database role may not create tables in schema public (permission denied for schema public)."


def _unreachable(error: DatabaseError) -> Finding:
    logger.warning("the database cannot be reached: %s", str(error).strip().partition("\n")[0])
    return Finding("database", f"The database cannot be used: {meaning(error)}.", "Check DATABASE_URL and the server.")


@cache
def migrations() -> frozenset[tuple[str, str]]:
    """All migrations that this code brings, by application and name."""
    return frozenset(MigrationLoader(None).graph.nodes)


def _storage() -> list[Finding]:
    try:
        has_room = blobs().has_space_for(0)
    except (OSError, ApiError) as error:
        logger.warning("bundle storage cannot be used: %s", error)
        has_room = False
    if has_room:
        return []
    mend = "Check STORAGE_BUCKET, its address and its key." if settings.STORAGE_BUCKET else "Check STORAGE_DIR."
    return [
        Finding("storage", "Bundle storage cannot be used: uploads and downloads wait.", mend, stops_heartbeats=False)
    ]
