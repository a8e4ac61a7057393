"""PostgreSQL's own programs: one dump of everything that Kernex keeps there, and back."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict

from operations.database.granting import address_of


class DumpFailed(Exception):
    """pg_dump or pg_restore could not do it. The message says what to do."""


def dump(database: dict[str, Any], target: Path, programs: Path | None = None) -> None:
    """Write the schema `public` to `target` as one consistent state. The database is in use meanwhile.

    `programs` is the directory of pg_dump, if not on PATH. Raises `DumpFailed`.
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
    """Load a dump into an empty database, whole or not at all. Raises `DumpFailed`."""
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
    """All of the dump but the schema `public`, which is there and belongs to another role."""
    done = subprocess.run(
        [_program("pg_restore", programs), "--list", source], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise DumpFailed(f"{source.name} is no dump that this pg_restore reads: {_said(done.stderr)}")
    kept = [line for line in done.stdout.splitlines() if " SCHEMA - public " not in line]
    listing = source.with_suffix(".list")
    listing.write_text("\n".join(kept))
    return [f"--use-list={listing}"]


def _run(name: str, programs: Path | None, database: dict[str, Any], *words: str) -> None:
    """The address travels in the environment: a password in an argument list is for everybody to see."""
    parts = conninfo_to_dict(address_of(database))
    known = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}
    known |= {"sslmode": "PGSSLMODE", "sslrootcert": "PGSSLROOTCERT"}
    given = {variable: str(parts[word]) for word, variable in known.items() if parts.get(word)}
    target = ["--dbname", given["PGDATABASE"]] if name == "pg_restore" else []
    command = [_program(name, programs), "--no-owner", "--no-privileges", "--no-password", *target, *words]
    done = subprocess.run(command, env={**os.environ, **given}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        hint = " Give the directory of newer programs by --programs." if "version mismatch" in done.stderr else ""
        raise DumpFailed(f"{name} failed: {_said(done.stderr)}{hint}")


def _program(name: str, programs: Path | None) -> str:
    found = shutil.which(name, path=str(programs) if programs else None)
    if found is None:
        where = f"in {programs}" if programs else "on PATH"
        raise DumpFailed(f"There is no {name} {where}: install postgresql-client, or give its directory by --programs.")
    return found


def _said(stderr: str) -> str:
    """The first lines of a complaint, where PostgreSQL's programs say what is wrong."""
    lines = [line for line in stderr.strip().splitlines() if line.strip()]
    return " ".join(lines[:2]) or "it did not say why."
