"""A dedicated PostgreSQL server for one test module, with superuser access, and a control plane on it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from dev.postgres import APP, Postgres, free_port
from tests.live import Live


@contextmanager
def own_server(directory: Path, *, durable: bool = False, **settings: str) -> Iterator[tuple[Postgres, Live]]:
    """Yield a running server, and a control plane that is migrated but not started."""
    with Postgres(directory / "postgres", durable=durable) as postgres:
        role = sql.Identifier(APP)
        with psycopg.connect(postgres.superuser_url, autocommit=True) as superuser:
            password = sql.Literal(postgres.passwords.app)
            superuser.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, password))
        with psycopg.connect(postgres.admin_url, autocommit=True) as admin:
            admin.execute(sql.SQL("GRANT ALL ON SCHEMA public TO {}").format(role))
        live = _live(directory, postgres.app_url, settings)
        live.prepare()
        try:
            yield postgres, live
        finally:
            live.stop()


def _live(directory: Path, url: str, settings: dict[str, str]) -> Live:
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "DJANGO_SETTINGS_MODULE": "kernex.settings",
        "SECRET_KEY": "x" * 50, "DATABASE_URL": url, "STORAGE_DIR": str(directory / "storage"),
        "PUBLIC_URL": f"http://127.0.0.1:{port}", **settings,
    }  # fmt: skip
    return Live(directory, environment, port)
