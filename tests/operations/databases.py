"""A database, its admin and the application's role as a provider creates them, before anything is granted."""

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
class CommandResult:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.out)
        return document


def manage(environment: dict[str, str], *arguments: str, text: str = "") -> CommandResult:
    """Run `manage.py` in a separate process."""
    completed = subprocess.run(
        [sys.executable, "manage.py", *arguments], cwd=ROOT, env=environment, input=text, capture_output=True,
        text=True, check=False, timeout=120,
    )  # fmt: skip
    return CommandResult(completed.returncode, completed.stdout, completed.stderr)


@dataclass
class Database:
    """One database on a shared server. The role does not exist until `make_role` or `grant` creates it."""

    postgres: Postgres
    name: str = field(default_factory=lambda: f"kernex_{secrets.token_hex(4)}")
    role: str = field(default_factory=lambda: f"app_{secrets.token_hex(4)}")
    password: str = field(default_factory=lambda: secrets.token_hex(12))

    @property
    def url(self) -> str:
        return self.postgres.url(self.role, self.password, self.name)

    @property
    def admin_url(self) -> str:
        return self.postgres.url("doadmin", self.postgres.passwords.admin, self.name)

    @property
    def superuser_url(self) -> str:
        return self.postgres.url("postgres", self.postgres.passwords.postgres, self.name)

    def make(self) -> "Database":
        with psycopg.connect(self.postgres.admin_url, autocommit=True) as admin:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(self.name)))
        return self

    def make_role(self, url: str) -> "Database":
        """Create the role as a provider's console does, with the right to log in and no other."""
        self.run(url, "CREATE ROLE {role} LOGIN PASSWORD {password}")
        return self

    def run(self, url: str, statement: str) -> list[tuple[Any, ...]]:
        """Run one statement with the connection URL `by`. Return its rows."""
        arguments = {"role": sql.Identifier(self.role), "database": sql.Identifier(self.name)}
        text = sql.SQL(statement).format(**arguments, password=sql.Literal(self.password))
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(text)
            return cursor.fetchall() if cursor.description else []

    def environment(self, **variables: str) -> dict[str, str]:
        """Return environment variables for a control plane process that uses this database."""
        return {
            "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "DJANGO_SETTINGS_MODULE": "kernex.settings",
            "SECRET_KEY": "x" * 50, "DATABASE_URL": self.url, "DATABASE_POOL": "0", "HOME": "/nonexistent",
            "STORAGE_DIR": os.environ["STORAGE_DIR"], "STATIC_ROOT": os.environ["STATIC_ROOT"], **variables,
        }  # fmt: skip

    def grant(self, *arguments: str) -> CommandResult:
        """Run `manage.py grant_perms` as the admin, in this process, because starting Django takes a second."""
        names = {"NAME": self.name, "USER": self.role, "PASSWORD": self.password, "PORT": str(self.postgres.port)}
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(settings, "DATABASES", {"default": settings.DATABASES["default"] | names})
            patch.setenv("ADMIN_DATABASE_URL", self.admin_url)
            try:
                call_command("grant_perms", *arguments, stdout=out, stderr=err)
            except CommandError as error:
                return CommandResult(1, out.getvalue(), f"{err.getvalue()}CommandError: {error}\n")
        return CommandResult(0, out.getvalue(), err.getvalue())
