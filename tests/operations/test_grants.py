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
from tests.operations.places import ROOT, Place, Ran, manage

AT_A_TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
NOTES = "CREATE TABLE django_migrations (id bigint PRIMARY KEY); CREATE SEQUENCE numbers"


def works(place: Place) -> None:
    """The role can do what Kernex does: make a table, fill it, and find its session's limits set."""
    place.run(place.url, "CREATE TABLE proof (id bigint GENERATED ALWAYS AS IDENTITY, word text)")
    place.run(place.url, "INSERT INTO proof (word) VALUES ('it works')")
    assert place.run(place.url, "SHOW lock_timeout") == [("3s",)]
    assert place.run(place.url, "SHOW search_path") == [("public",)]


def rights(place: Place) -> list[tuple[object, ...]]:
    """Everything in the database's catalogue that a grant could change."""
    return place.run(
        place.superuser_url,
        "SELECT 'role', rolname::text, rolconfig::text FROM pg_roles"
        " UNION ALL SELECT 'schema', nspname::text, nspacl::text FROM pg_namespace WHERE nspname = 'public'"
        " UNION ALL SELECT 'database', datname::text, datacl::text FROM pg_database WHERE datname = current_database()"
        " UNION ALL SELECT 'table', relname::text, concat(relowner, relacl) FROM pg_class"
        " WHERE relnamespace = 'public'::regnamespace"
        " UNION ALL SELECT 'default', '', defaclacl::text FROM pg_default_acl ORDER BY 1, 2, 3",
    )


def test_it_makes_the_role(place: Place) -> None:
    ran = place.grant()
    assert (ran.code, ran.err) == (0, "")
    works(place)


def test_it_grants_a_role_that_the_admin_made(place: Place) -> None:
    place.make_role(place.admin_url)
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        place.run(place.url, "CREATE TABLE proof (id bigint)")
    ran = place.grant()
    assert ran.code == 0, ran.err
    works(place)


def test_it_grants_a_role_that_somebody_else_made(place: Place) -> None:
    """Since PostgreSQL 16 the admin may not alter such a role: it sets its own settings."""
    place.make_role(place.superuser_url)
    ran = place.grant()
    assert ran.code == 0, ran.err
    if place.postgres.binaries.parent.name != "15":
        assert "(as the role itself)" in ran.out
        assert f'not done: ALTER ROLE "{place.role}" CONNECTION LIMIT' in ran.out
        assert "is not limited to" in place.grant("--json").json["notes"][0]
    works(place)


def test_the_role_leaves_connections_to_people(place: Place) -> None:
    place.make_role(place.admin_url)
    assert place.grant().code == 0
    ((most, allowed),) = place.run(
        place.url,
        "SELECT current_setting('max_connections')::int, rolconnlimit FROM pg_roles WHERE rolname = current_user",
    )
    assert 0 < allowed <= most - 3 - LEFT_TO_PEOPLE
    assert place.grant("--connection-limit", "1").out.startswith(f'ALTER ROLE "{place.role}" CONNECTION LIMIT 1\n')
    with psycopg.connect(place.url), pytest.raises(psycopg.OperationalError, match="too many connections for role"):
        psycopg.connect(place.url)
    ran = place.grant("--check", "--json")
    assert (ran.code, ran.json) == (
        0,
        {"missing": [], "notes": [f"{place.role} is not limited to {allowed} connections."]},
    )
    assert f"{place.role} is not limited to {allowed} connections." in place.grant("--check").out
    assert "connections" not in place.grant("--check", "--connection-limit", "1").out


@pytest.mark.parametrize("wrong", ["0", "-1", "many", "1e3", "99999999999"])
def test_a_limit_that_is_none_is_refused(new_place: Place, wrong: str) -> None:
    ran = new_place.grant("--connection-limit", wrong)
    assert ran.code != 0
    assert "is not a whole number from 1 to" in ran.err


def test_said_twice_it_changes_nothing(place: Place) -> None:
    place.make_role(place.admin_url)
    assert json.loads(place.grant("--json").out)["done"] != []
    before = rights(place)
    again = place.grant("--json")
    assert (again.code, again.json) == (0, {"done": [], "missing": [], "notes": []})
    assert rights(place) == before


def test_check_names_each_lack_and_changes_nothing(place: Place) -> None:
    place.make_role(place.admin_url)
    before = rights(place)
    ran = place.grant("--check", "--json")
    assert ran.code == 1
    assert f"{place.role} may not create tables in schema public." in ran.json["missing"]
    assert f"{place.role} does not have lock_timeout = 3s." in ran.json["missing"]
    # Each is a sentence, and people see the same ones.
    assert [lack for lack in ran.json["missing"] if not re.fullmatch(r"[^\n]+ [^\n]+\.", lack)] == []
    assert [lack for lack in ran.json["missing"] if lack not in place.grant("--check").err] == []
    assert rights(place) == before
    assert place.grant().code == 0
    assert place.grant("--check", "--json") == Ran(0, '{"missing": [], "notes": []}\n', "")


def test_check_as_the_role_itself_needs_no_admin(place: Place) -> None:
    place.make_role(place.admin_url)
    assert manage(place.environment(), "grant_perms", "--check").code == 1
    assert place.grant().code == 0
    ran = manage(place.environment(), "grant_perms", "--check")
    assert ran.code == 0, ran.err


def test_check_sees_one_lost_right(place: Place) -> None:
    assert place.grant().code == 0
    place.run(place.admin_url, "CREATE TABLE theirs (id bigint)")
    assert place.grant("--check").code == 0
    place.run(place.admin_url, "REVOKE DELETE ON theirs FROM {role}")
    ran = place.grant("--check", "--json")
    assert ran.json["missing"] == [f"{place.role} lacks rights on tables of another owner in schema public."]
    assert place.grant().code == 0
    place.run(place.url, "DELETE FROM theirs")


def test_the_printed_sql_does_the_same(place: Place) -> None:
    place.make_role(place.admin_url)
    before = rights(place)
    printed = place.grant("--print-sql")
    assert printed.code == 0
    assert rights(place) == before
    place.run(place.admin_url, printed.out.replace("{", "{{").replace("}", "}}"))
    assert place.grant("--check", "--json").json == {"missing": [], "notes": []}
    assert place.grant("--print-sql", "--json").json == {"sql": []}
    works(place)


def test_the_printed_sql_also_makes_the_role(place: Place) -> None:
    printed = place.grant("--print-sql")
    assert f'CREATE ROLE "{place.role}" LOGIN' in printed.out
    assert place.password not in printed.out + printed.err
    place.run(place.admin_url, printed.out.replace("{", "{{").replace("}", "}}"))
    works(place)


def test_tables_that_the_admin_made_are_handed_over(place: Place) -> None:
    """As when somebody ran `migrate` as the admin."""
    place.make_role(place.admin_url)
    place.run(place.admin_url, NOTES)
    ran = place.grant()
    assert ran.code == 0, ran.err
    place.run(place.url, "ALTER TABLE django_migrations ADD COLUMN app text")
    place.run(place.url, "SELECT nextval('numbers')")
    assert place.grant("--json").json == {"done": [], "missing": [], "notes": []}


def test_what_the_admin_may_not_give_is_told_with_its_sql(place: Place) -> None:
    """The admin neither made the role nor is allowed to become it: since 16 it cannot hand it tables."""
    place.make_role(place.superuser_url)
    place.run(place.admin_url, NOTES)
    ran = place.grant()
    if place.postgres.binaries.parent.name == "15":
        assert ran.code == 0
    else:
        assert ran.code == 1
        assert "The table django_migrations belongs to another role" in ran.err
        remedy = ran.err[ran.err.index("-- ") :]
        place.run(place.superuser_url, remedy.replace("{", "{{").replace("}", "}}"))
    assert place.grant("--check").code == 0
    place.run(place.url, "ALTER TABLE django_migrations ADD COLUMN app text")


def test_it_works_beside_a_session_at_work(place: Place) -> None:
    """A grant never stands in the way of a running control plane, nor waits for one."""
    assert place.grant().code == 0
    place.run(place.url, "CREATE TABLE busy (id bigint)")
    place.run(place.admin_url, "REVOKE CREATE ON SCHEMA public FROM {role}")
    with psycopg.connect(place.url) as session:
        session.execute("LOCK TABLE busy IN ACCESS EXCLUSIVE MODE")
        ran = place.grant()
    assert ran.code == 0, ran.err
    works(place)


def test_many_at_once_do_each_thing_once(new_place: Place) -> None:
    """As when every container of a deployment begins with it."""
    role = Role(new_place.role, new_place.password, new_place.database)
    told: list[str] = []
    left: list[Need] = []
    together = threading.Barrier(6)

    def work() -> None:
        with psycopg.connect(new_place.admin_url, autocommit=True) as admin:
            together.wait()
            left.extend(grant(admin, role, told.append, new_place.url))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert left == []
    assert [line for line in told if line.startswith("refused")] == []
    assert len(told) == len(set(told))
    works(new_place)


def test_as_a_process_it_says_and_ends_the_same(new_place: Place) -> None:
    environment = new_place.environment(ADMIN_DATABASE_URL=new_place.admin_url)
    before = manage(environment, "grant_perms", "--check", "--json")
    assert (before.code, before.json) == (1, {"missing": [f"The role {new_place.role} does not exist."], "notes": []})
    assert manage(environment, "grant_perms").out.endswith(f"all that Kernex needs in {new_place.database}.\n")
    assert manage(environment, "grant_perms", "--json") == Ran(0, '{"done": [], "missing": [], "notes": []}\n', "")
    assert manage(environment, "grant_perms", "--check").code == 0


def test_a_role_with_a_strange_name_is_quoted(new_place: Place) -> None:
    new_place.role = 'app"; DROP ROLE doadmin; --'
    environment = new_place.environment(ADMIN_DATABASE_URL=new_place.admin_url)
    environment["DATABASE_URL"] = new_place.url.replace(new_place.role, "app%22%3B%20DROP%20ROLE%20doadmin%3B%20--")
    assert manage(environment, "grant_perms").code == 0
    assert manage(environment, "grant_perms", "--check").code == 0


# -- Who grants, and with which password


def test_without_an_admin_it_asks_for_one(new_place: Place) -> None:
    ran = manage(new_place.environment(), "grant_perms")
    assert ran.code == 1
    assert "ADMIN_DATABASE_URL" in ran.err
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("wrong", ["password", "host", "no url"])
def test_a_wrong_admin_address_ends_in_a_sentence(new_place: Place, wrong: str) -> None:
    secret = new_place.postgres.passwords.admin
    address = {
        "password": new_place.admin_url.replace(secret, "s3cret-wrong"),
        "host": "postgresql://doadmin:s3cret-wrong@127.0.0.1:1/x",
        "no url": "doadmin:s3cret-wrong at home",
    }[wrong]
    ran = manage(new_place.environment(ADMIN_DATABASE_URL=address), "grant_perms")
    assert ran.code == 1
    assert ran.err.startswith("CommandError: ")
    assert "s3cret-wrong" not in ran.out + ran.err
    assert "Traceback" not in ran.err


def test_the_admins_password_may_come_from_a_file(new_place: Place, tmp_path: Path) -> None:
    without = new_place.admin_url.replace(f":{new_place.postgres.passwords.admin}@", "@")
    assert manage(new_place.environment(ADMIN_DATABASE_URL=without), "grant_perms").code == 1
    (tmp_path / "password").write_text(f"{new_place.postgres.passwords.admin}\n")
    (tmp_path / "url").write_text(without)
    environment = new_place.environment(
        ADMIN_DATABASE_URL_FILE=str(tmp_path / "url"), ADMIN_PASSWORD_FILE=str(tmp_path / "password")
    )
    ran = manage(environment, "grant_perms")
    assert ran.code == 0, ran.err


def test_the_address_may_be_an_argument_without_a_password(new_place: Place) -> None:
    without = new_place.admin_url.replace(f":{new_place.postgres.passwords.admin}@", "@")
    environment = new_place.environment(ADMIN_PASSWORD=new_place.postgres.passwords.admin)
    assert manage(environment, "grant_perms", "--admin-url", without).code == 0


def test_a_password_in_an_argument_is_refused(new_place: Place) -> None:
    """Every user of the machine sees the arguments of every process."""
    ran = manage(new_place.environment(), "grant_perms", "--admin-url", new_place.admin_url)
    assert ran.code == 1
    assert "ADMIN_PASSWORD" in ran.err
    assert new_place.postgres.passwords.admin not in ran.out + ran.err


def test_a_person_at_the_terminal_is_asked_for_the_password(new_place: Place) -> None:
    """Not shown while it is typed, and asked for only where somebody can answer."""
    secret = new_place.postgres.passwords.admin
    environment = new_place.environment(ADMIN_DATABASE_URL=new_place.admin_url.replace(f":{secret}@", "@"))
    refused = manage(environment, "grant_perms", text=f"{secret}\n")
    assert refused.code == 1
    assert "no password supplied" in refused.err
    command = [sys.executable, "-c", AT_A_TERMINAL, sys.executable, "manage.py", "grant_perms"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    shown = b""
    while b"password: " not in shown:
        shown += (chunk := os.read(process.stdout.fileno(), 1000))
        assert chunk, shown
    process.stdin.write(f"{secret}\n".encode())
    process.stdin.flush()
    shown += process.stdout.read()
    assert process.wait(30) == 0, shown
    process.stdin.close()
    process.stdout.close()
    assert secret not in shown.decode()
    works(new_place)


def test_no_secret_shows(new_place: Place) -> None:
    """Neither in what it says nor in the server's log, which keeps every statement here."""
    new_place.run(new_place.superuser_url, "ALTER DATABASE {database} SET log_statement = 'all'")
    ran = new_place.grant()
    log = (new_place.postgres.directory / "postgres.log").read_text()
    assert f'CREATE ROLE "{new_place.role}"' in log
    for secret in (new_place.password, new_place.postgres.passwords.admin, "SCRAM-SHA-256"):
        assert secret not in ran.out + ran.err
    assert new_place.password not in log


def test_a_role_with_another_password_is_told(new_place: Place) -> None:
    new_place.make_role(new_place.admin_url)
    new_place.password = "another than the role's"
    environment = new_place.environment(ADMIN_DATABASE_URL=new_place.admin_url)
    environment["DATABASE_URL"] = new_place.url.replace(" ", "%20")
    ran = manage(environment, "grant_perms")
    assert ran.code == 1
    assert "DATABASE_URL has another password" in ran.err
