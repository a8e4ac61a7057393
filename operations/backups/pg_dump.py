"""Dump and load the database with PostgreSQL's own programs."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict

from operations.database.granting import dsn_of


class DumpFailed(Exception):
    """pg_dump or pg_restore failed. The message says what to do."""


def dump(database: dict[str, Any], target: Path, programs: Path | None = None) -> None:
    """Write the schema `public` to `target` as one consistent state. The database may be in use.

    `programs` is the directory of pg_dump; None: it is on PATH. Raises `DumpFailed`.
    """
    _run(
        "pg_dump",
        programs,
        database,
        "--format=custom",
        "--schema=public",
        "--no-unlogged-table-data",
        f"--file={target}",
    )


def load(database: dict[str, Any], source: Path, programs: Path | None = None) -> None:
    """Load a dump into an empty database, completely or not at all. Raises `DumpFailed`."""
    _run(
        "pg_restore",
        programs,
        database,
        "--single-transaction",
        "--exit-on-error",
        "--no-comments",
        *_listed(source, programs),
        str(source),
    )


def _listed(source: Path, programs: Path | None) -> list[str]:
    """Return the options that load everything except the schema `public`, which exists and belongs to another role."""
    process = subprocess.run(
        [_program("pg_restore", programs), "--list", source], capture_output=True, text=True, check=False
    )
    if process.returncode != 0:
        raise DumpFailed(f"{source.name} is not a dump that this pg_restore can read: {_reason(process.stderr)}")
    kept = [line for line in process.stdout.splitlines() if " SCHEMA - public " not in line]
    listing = source.with_suffix(".list")
    listing.write_text("\n".join(kept))
    return [f"--use-list={listing}"]


def _run(name: str, programs: Path | None, database: dict[str, Any], *options: str) -> None:
    """Run a program with the DSN in its environment: any user of the machine can read command lines."""
    parts = conninfo_to_dict(dsn_of(database))
    variables = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}
    variables |= {"sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT"}
    environment = {variable: str(parts[keyword]) for keyword, variable in variables.items() if parts.get(keyword)}
    target = ["--dbname", environment["PGDATABASE"]] if name == "pg_restore" else []
    command = [_program(name, programs), "--no-owner", "--no-privileges", "--no-password", *target, *options]
    process = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if process.returncode != 0:
        hint = " Name the directory of newer programs with --programs." if "version mismatch" in process.stderr else ""
        raise DumpFailed(f"{name} failed: {_reason(process.stderr)}{hint}")


def _program(name: str, programs: Path | None) -> str:
    program = shutil.which(name, path=str(programs) if programs else None)
    if program is None:
        where = f"in {programs}" if programs else "on PATH"
        raise DumpFailed(
            f"{name} was not found {where}: install postgresql-client, or name its directory with --programs."
        )
    return program


def _reason(stderr: str) -> str:
    """Return the first two lines of an error text, which name the cause."""
    lines = [line for line in stderr.strip().splitlines() if line.strip()]
    return " ".join(lines[:2]) or "it gave no reason."
