"""What is looked at before the web server or the scheduler starts."""

import sys

import psycopg
from django.conf import settings

from operations.database.granting import address_of
from operations.database.grants import explanation, obstacle
from operations.database.postgres_errors import ungranted


def refuse_ungranted() -> None:
    """End the process with a paragraph if the database's role lacks what Kernex needs.

    A database that is away is no reason: it may come back, and until then /health says so. The connection is one of
    its own, for a pool opened before the fork would be shared.
    """
    database = settings.DATABASES["default"]
    try:
        with psycopg.connect(address_of(database), connect_timeout=5) as connection:
            problem = obstacle(connection)
    except psycopg.OperationalError as error:
        problem = ungranted(error)
    if problem:
        sys.stderr.write(f"{explanation(str(database['USER']), problem)}\n")
        sys.exit(1)
