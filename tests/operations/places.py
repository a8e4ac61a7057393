"""A database, its admin and the role of the application, as a provider hands them over: nothing granted yet."""

import io
import json
import os
import secrets
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from psycopg import sql

from dev.postgres import Postgres

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Ran:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self.out)
        return said


def manage(environment: dict[str, str], *words: str, text: str = "") -> Ran:
    """`manage.py` as a process of its own."""
    ran = subprocess.run(
        [sys.executable, "manage.py", *words], cwd=ROOT, env=environment, input=text, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    return Ran(ran.returncode, ran.stdout, ran.stderr)


@dataclass
class Place:
    """One database on a server that others use too. The role does not exist until somebody makes it."""

    postgres: Postgres
    database: str = field(default_factory=lambda: f"kernex_{secrets.token_hex(4)}")
    role: str = field(default_factory=lambda: f"app_{secrets.token_hex(4)}")
    password: str = field(default_factory=lambda: secrets.token_hex(12))

    @property
    def url(self) -> str:
        return self.postgres.url(self.role, self.password, self.database)

    @property
    def admin_url(self) -> str:
        return self.postgres.url("doadmin", self.postgres.passwords.admin, self.database)

    @property
    def superuser_url(self) -> str:
        return self.postgres.url("postgres", self.postgres.passwords.postgres, self.database)

    def make(self) -> "Place":
        with psycopg.connect(self.postgres.admin_url, autocommit=True) as admin:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self.database)))
        return self

    def make_role(self, by: str) -> "Place":
        """As a provider's console makes it: it may log in, no more."""
        self.run(by, "CREATE ROLE {role} LOGIN PASSWORD {password}")
        return self

    def run(self, by: str, statement: str) -> list[tuple[Any, ...]]:
        """One statement by whoever has the address `by`."""
        words = {"role": sql.Identifier(self.role), "database": sql.Identifier(self.database)}
        text = sql.SQL(statement).format(**words, password=sql.Literal(self.password))
        with psycopg.connect(by, autocommit=True) as connection:
            cursor = connection.execute(text)
            return cursor.fetchall() if cursor.description else []

    def environment(self, **variables: str) -> dict[str, str]:
        """What a process of the control plane gets that works here."""
        return {
            "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "DJANGO_SETTINGS_MODULE": "kernex.settings",
            "SECRET_KEY": "x" * 50, "DATABASE_URL": self.url, "DATABASE_POOL": "0", "HOME": "/nonexistent",
            "STORAGE_DIR": os.environ["STORAGE_DIR"], "STATIC_ROOT": os.environ["STATIC_ROOT"], **variables,
        }  # fmt: skip

    def grant(self, *words: str) -> Ran:
        """`manage.py grant_perms` as the admin, in this process: Django takes a second to start."""
        names = {"NAME": self.database, "USER": self.role, "PASSWORD": self.password, "PORT": str(self.postgres.port)}
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(settings, "DATABASES", {"default": settings.DATABASES["default"] | names})
            patch.setenv("ADMIN_DATABASE_URL", self.admin_url)
            try:
                call_command("grant_perms", *words, stdout=out, stderr=err)
            except CommandError as error:
                return Ran(1, out.getvalue(), f"{err.getvalue()}CommandError: {error}\n")
        return Ran(0, out.getvalue(), err.getvalue())
