"""The module that Django imports for the `ENGINE` `foundation.postgresql`."""

from typing import Any

import psycopg
from django.db.backends.postgresql import base
from psycopg_pool import ConnectionPool


class DatabaseWrapper(base.DatabaseWrapper):
    """Checks the session that it takes from the pool, with one empty query. Without a pool, nothing is different.

    `CONN_HEALTH_CHECKS` would let psycopg_pool do this. But if the database was restarted, all sessions in the pool are
    broken, and psycopg_pool waits 0, 1 and 2 s after each of them.
    """

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Return a session that responds. A broken one, and all others in the pool, are replaced first."""
        session = super().get_new_connection(conn_params)
        if self.pool is None or _responds(session):
            return session
        self.pool.putconn(session)
        self.pool.drain()
        return super().get_new_connection(conn_params)


def _responds(session: Any) -> bool:
    try:
        ConnectionPool.check_connection(session)
    except psycopg.OperationalError:
        return False
    return True
