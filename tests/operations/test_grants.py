"""`manage.py grant_perms`: what it gives, what it says, and that it changes nothing when it shall not."""

import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import psycopg
import pytest

from operations.database.granting import grant
from operations.database.grants import LEFT_TO_PEOPLE, Need, Role
from tests.operations.databases import ROOT, CommandResult, Database, manage

RUN_ON_TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
ADMIN_TABLES = "CREATE TABLE django_migrations (id bigint PRIMARY KEY); CREATE SEQUENCE numbers"


def check_role(database: Database) -> None:
    """Check that the role can create and fill a table, and that its session limits are set."""
    database.run(database.url, "CREATE TABLE proof (id bigint GENERATED ALWAYS AS IDENTITY, word text)")
    database.run(database.url, "INSERT INTO proof (word) VALUES ('it works')")
    assert database.run(database.url, "SHOW lock_timeout") == [("3s",)]
    assert database.run(database.url, "SHOW search_path") == [("public",)]


def rights(database: Database) -> list[tuple[object, ...]]:
    """Return everything in the catalogue that a grant could change."""
    return database.run(
        database.superuser_url,
        "SELECT 'role', rolname::text, rolconfig::text FROM pg_roles"
        " UNION ALL SELECT 'schema', nspname::text, nspacl::text FROM pg_namespace WHERE nspname = 'public'"
        " UNION ALL SELECT 'database', datname::text, datacl::text FROM pg_database WHERE datname = current_database()"
        " UNION ALL SELECT 'table', relname::text, concat(relowner, relacl) FROM pg_class"
        " WHERE relnamespace = 'public'::regnamespace"
        " UNION ALL SELECT 'default', '', defaclacl::text FROM pg_default_acl ORDER BY 1, 2, 3",
    )


def test_it_creates_the_role(database: Database) -> None:
    result = database.grant()
    assert (result.code, result.err) == (0, "")
    check_role(database)


def test_it_grants_a_role_that_the_admin_created(database: Database) -> None:
    database.make_role(database.admin_url)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        database.run(database.url, "CREATE TABLE proof (id bigint)")
    result = database.grant()
    assert result.code == 0, result.err
    check_role(database)


def test_it_grants_a_role_that_another_user_created(database: Database) -> None:
    """Since PostgreSQL 16, the admin may not alter such a role. The role then applies its own settings."""
    database.make_role(database.superuser_url)
    result = database.grant()
    assert result.code == 0, result.err
    if database.postgres.binaries.parent.name != "15":
        assert "(as the role itself)" in result.out
        assert f'not done: ALTER ROLE "{database.role}" CONNECTION LIMIT' in result.out
        assert "is not limited to" in database.grant("--json").json["notes"][0]
    check_role(database)


def test_the_role_leaves_connections_for_administrators(database: Database) -> None:
    database.make_role(database.admin_url)
    assert database.grant().code == 0
    ((max_connections, limit),) = database.run(
        database.url,
        "SELECT current_setting('max_connections')::int, rolconnlimit FROM pg_roles WHERE rolname = current_user",
    )
    assert 0 < limit <= max_connections - 3 - LEFT_TO_PEOPLE
    assert database.grant("--connection-limit", "1").out.startswith(
        f'ALTER ROLE "{database.role}" CONNECTION LIMIT 1\n'
    )
    with psycopg.connect(database.url), pytest.raises(psycopg.OperationalError, match="too many connections for role"):
        psycopg.connect(database.url)
    result = database.grant("--check", "--json")
    assert (result.code, result.json) == (
        0,
        {"missing": [], "notes": [f"{database.role} is not limited to {limit} connections."]},
    )
    assert f"{database.role} is not limited to {limit} connections." in database.grant("--check").out
    assert "connections" not in database.grant("--check", "--connection-limit", "1").out


@pytest.mark.parametrize("wrong", ["0", "-1", "many", "1e3", "99999999999"])
def test_an_invalid_connection_limit_is_refused(newest_database: Database, wrong: str) -> None:
    result = newest_database.grant("--connection-limit", wrong)
    assert result.code != 0
    assert "is not a whole number from 1 to" in result.err


def test_it_is_idempotent(database: Database) -> None:
    database.make_role(database.admin_url)
    assert json.loads(database.grant("--json").out)["done"] != []
    before = rights(database)
    again = database.grant("--json")
    assert (again.code, again.json) == (0, {"done": [], "missing": [], "notes": []})
    assert rights(database) == before


def test_check_names_each_missing_privilege_and_changes_nothing(database: Database) -> None:
    database.make_role(database.admin_url)
    before = rights(database)
    result = database.grant("--check", "--json")
    assert result.code == 1
    assert f"{database.role} may not create tables in schema public." in result.json["missing"]
    assert f"{database.role} does not have lock_timeout = 3s." in result.json["missing"]
    # Each entry is a sentence, and the text output has the same ones.
    assert [missing for missing in result.json["missing"] if not re.fullmatch(r"[^\n]+ [^\n]+\.", missing)] == []
    assert [missing for missing in result.json["missing"] if missing not in database.grant("--check").err] == []
    assert rights(database) == before
    assert database.grant().code == 0
    assert database.grant("--check", "--json") == CommandResult(0, '{"missing": [], "notes": []}\n', "")


def test_check_needs_no_admin(database: Database) -> None:
    database.make_role(database.admin_url)
    assert manage(database.environment(), "grant_perms", "--check").code == 1
    assert database.grant().code == 0
    result = manage(database.environment(), "grant_perms", "--check")
    assert result.code == 0, result.err


def test_check_finds_a_single_missing_privilege(database: Database) -> None:
    assert database.grant().code == 0
    database.run(database.admin_url, "CREATE TABLE theirs (id bigint)")
    assert database.grant("--check").code == 0
    database.run(database.admin_url, "REVOKE DELETE ON theirs FROM {role}")
    result = database.grant("--check", "--json")
    assert result.json["missing"] == [f"{database.role} lacks rights on tables of another owner in schema public."]
    assert database.grant().code == 0
    database.run(database.url, "DELETE FROM theirs")


def test_the_printed_sql_does_the_same(database: Database) -> None:
    database.make_role(database.admin_url)
    before = rights(database)
    printed = database.grant("--print-sql")
    assert printed.code == 0
    assert rights(database) == before
    database.run(database.admin_url, printed.out.replace("{", "{{").replace("}", "}}"))
    assert database.grant("--check", "--json").json == {"missing": [], "notes": []}
    assert database.grant("--print-sql", "--json").json == {"sql": []}
    check_role(database)


def test_the_printed_sql_also_creates_the_role(database: Database) -> None:
    printed = database.grant("--print-sql")
    assert f'CREATE ROLE "{database.role}" LOGIN' in printed.out
    assert database.password not in printed.out + printed.err
    database.run(database.admin_url, printed.out.replace("{", "{{").replace("}", "}}"))
    check_role(database)


def test_tables_of_the_admin_change_their_owner(database: Database) -> None:
    """Running `migrate` as the admin leaves such tables."""
    database.make_role(database.admin_url)
    database.run(database.admin_url, ADMIN_TABLES)
    result = database.grant()
    assert result.code == 0, result.err
    database.run(database.url, "ALTER TABLE django_migrations ADD COLUMN app text")
    database.run(database.url, "SELECT nextval('numbers')")
    assert database.grant("--json").json == {"done": [], "missing": [], "notes": []}


def test_a_change_that_the_admin_may_not_make_is_reported_with_its_sql(database: Database) -> None:
    """Since PostgreSQL 16, the admin cannot make a role the owner unless it created the role or is a member."""
    database.make_role(database.superuser_url)
    database.run(database.admin_url, ADMIN_TABLES)
    result = database.grant()
    if database.postgres.binaries.parent.name == "15":
        assert result.code == 0
    else:
        assert result.code == 1
        assert "The table django_migrations belongs to another role" in result.err
        sql_remedy = result.err[result.err.index("-- ") :]
        database.run(database.superuser_url, sql_remedy.replace("{", "{{").replace("}", "}}"))
    assert database.grant("--check").code == 0
    database.run(database.url, "ALTER TABLE django_migrations ADD COLUMN app text")


def test_it_works_beside_a_session_that_holds_locks(database: Database) -> None:
    """A grant neither blocks a running control plane nor waits for one."""
    assert database.grant().code == 0
    database.run(database.url, "CREATE TABLE busy (id bigint)")
    database.run(database.admin_url, "REVOKE CREATE ON SCHEMA public FROM {role}")
    with psycopg.connect(database.url) as session:
        session.execute("LOCK TABLE busy IN ACCESS EXCLUSIVE MODE")
        result = database.grant()
    assert result.code == 0, result.err
    check_role(database)


def test_concurrent_grants_make_each_change_once(newest_database: Database) -> None:
    """Several containers may run it when they start."""
    role = Role(newest_database.role, newest_database.password, newest_database.name)
    lines: list[str] = []
    remaining: list[Need] = []
    barrier = threading.Barrier(6)

    def work() -> None:
        with psycopg.connect(newest_database.admin_url, autocommit=True) as admin:
            barrier.wait()
            remaining.extend(grant(admin, role, lines.append, newest_database.url))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert remaining == []
    assert [line for line in lines if line.startswith("refused")] == []
    assert len(lines) == len(set(lines))
    check_role(newest_database)


def test_as_a_process_it_has_the_same_output_and_exit_codes(newest_database: Database) -> None:
    environment = newest_database.environment(ADMIN_DATABASE_URL=newest_database.admin_url)
    before = manage(environment, "grant_perms", "--check", "--json")
    assert (before.code, before.json) == (
        1,
        {"missing": [f"The role {newest_database.role} does not exist."], "notes": []},
    )
    assert manage(environment, "grant_perms").out.endswith(f"all that Kernex needs in {newest_database.name}.\n")
    assert manage(environment, "grant_perms", "--json") == CommandResult(
        0, '{"done": [], "missing": [], "notes": []}\n', ""
    )
    assert manage(environment, "grant_perms", "--check").code == 0


def test_a_role_with_a_strange_name_is_quoted(newest_database: Database) -> None:
    newest_database.role = 'app"; DROP ROLE doadmin; --'
    environment = newest_database.environment(ADMIN_DATABASE_URL=newest_database.admin_url)
    environment["DATABASE_URL"] = newest_database.url.replace(
        newest_database.role, "app%22%3B%20DROP%20ROLE%20doadmin%3B%20--"
    )
    assert manage(environment, "grant_perms").code == 0
    assert manage(environment, "grant_perms", "--check").code == 0


def test_without_an_admin_url_it_names_the_variable(newest_database: Database) -> None:
    result = manage(newest_database.environment(), "grant_perms")
    assert result.code == 1
    assert "ADMIN_DATABASE_URL" in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize("wrong", ["password", "host", "no url"])
def test_a_wrong_admin_url_is_reported_without_secrets(newest_database: Database, wrong: str) -> None:
    secret = newest_database.postgres.passwords.admin
    url = {
        "password": newest_database.admin_url.replace(secret, "s3cret-wrong"),
        "host": "postgresql://doadmin:s3cret-wrong@127.0.0.1:1/x",
        "no url": "doadmin:s3cret-wrong at home",
    }[wrong]
    result = manage(newest_database.environment(ADMIN_DATABASE_URL=url), "grant_perms")
    assert result.code == 1
    assert result.err.startswith("CommandError: ")
    assert "s3cret-wrong" not in result.out + result.err
    assert "Traceback" not in result.err


def test_the_admins_password_may_come_from_a_file(newest_database: Database, tmp_path: Path) -> None:
    url_without_password = newest_database.admin_url.replace(f":{newest_database.postgres.passwords.admin}@", "@")
    assert manage(newest_database.environment(ADMIN_DATABASE_URL=url_without_password), "grant_perms").code == 1
    (tmp_path / "password").write_text(f"{newest_database.postgres.passwords.admin}\n")
    (tmp_path / "url").write_text(url_without_password)
    environment = newest_database.environment(
        ADMIN_DATABASE_URL_FILE=str(tmp_path / "url"), ADMIN_PASSWORD_FILE=str(tmp_path / "password")
    )
    result = manage(environment, "grant_perms")
    assert result.code == 0, result.err


def test_the_admin_url_may_be_an_argument_without_a_password(newest_database: Database) -> None:
    url_without_password = newest_database.admin_url.replace(f":{newest_database.postgres.passwords.admin}@", "@")
    environment = newest_database.environment(ADMIN_PASSWORD=newest_database.postgres.passwords.admin)
    assert manage(environment, "grant_perms", "--admin-url", url_without_password).code == 0


def test_a_password_in_an_argument_is_refused(newest_database: Database) -> None:
    """Every user of the machine sees the arguments of every process."""
    result = manage(newest_database.environment(), "grant_perms", "--admin-url", newest_database.admin_url)
    assert result.code == 1
    assert "ADMIN_PASSWORD" in result.err
    assert newest_database.postgres.passwords.admin not in result.out + result.err


def test_on_a_terminal_it_asks_for_the_password(newest_database: Database) -> None:
    """The prompt does not echo, and appears only on a terminal."""
    secret = newest_database.postgres.passwords.admin
    environment = newest_database.environment(ADMIN_DATABASE_URL=newest_database.admin_url.replace(f":{secret}@", "@"))
    refused = manage(environment, "grant_perms", text=f"{secret}\n")
    assert refused.code == 1
    assert "no password supplied" in refused.err
    command = [sys.executable, "-c", RUN_ON_TERMINAL, sys.executable, "manage.py", "grant_perms"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    terminal_output = b""
    while b"password: " not in terminal_output:
        terminal_output += (chunk := os.read(process.stdout.fileno(), 1000))
        assert chunk, terminal_output
    process.stdin.write(f"{secret}\n".encode())
    process.stdin.flush()
    terminal_output += process.stdout.read()
    assert process.wait(30) == 0, terminal_output
    process.stdin.close()
    process.stdout.close()
    assert secret not in terminal_output.decode()
    check_role(newest_database)


def test_no_secret_is_printed_or_logged(newest_database: Database) -> None:
    """The output and the server's log, which has every statement here, contain no secret."""
    newest_database.run(newest_database.superuser_url, "ALTER DATABASE {database} SET log_statement = 'all'")
    result = newest_database.grant()
    log = (newest_database.postgres.directory / "postgres.log").read_text()
    assert f'CREATE ROLE "{newest_database.role}"' in log
    for secret in (newest_database.password, newest_database.postgres.passwords.admin, "SCRAM-SHA-256"):
        assert secret not in result.out + result.err
    assert newest_database.password not in log


def test_a_role_with_another_password_is_reported(newest_database: Database) -> None:
    newest_database.make_role(newest_database.admin_url)
    newest_database.password = "another than the role's"
    environment = newest_database.environment(ADMIN_DATABASE_URL=newest_database.admin_url)
    environment["DATABASE_URL"] = newest_database.url.replace(" ", "%20")
    result = manage(environment, "grant_perms")
    assert result.code == 1
    assert "DATABASE_URL has another password" in result.err
