"""The check before the web server or the scheduler starts."""

import sys

import psycopg
from django.conf import settings

from operations.database.granting import dsn_of
from operations.database.grants import explanation, obstacle
from operations.database.postgres_errors import ungranted


def refuse_ungranted() -> None:
    """Exit with a paragraph if the database's role lacks what Kernex needs.

    An unreachable database is not a reason to exit: it may recover, and /health reports it until then. The check uses a
    separate connection, because a pool opened before the fork would be shared.
    """
    database = settings.DATABASES["default"]
    try:
        with psycopg.connect(dsn_of(database), connect_timeout=5) as connection:
            problem = obstacle(connection)
    except psycopg.OperationalError as error:
        problem = ungranted(error)
    if problem:
        sys.stderr.write(f"{explanation(str(database['USER']), problem)}\n")
        sys.exit(1)
