"""Settings: a wrong value stops the process with one sentence that names it; values may come from files."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from foundation.environment import BadSetting, Environment
from tests.operations.databases import ROOT

VALID = {"SECRET_KEY": "x" * 50, "DATABASE_URL": "postgresql://app:s3cret@db.example.com/kernex_db"}
IMPORT_SETTINGS = "import kernex.settings"
RUN_GUNICORN_CONFIG = "import runpy; runpy.run_path('gunicorn.conf.py')"
# Invalid values for each variable that is validated.
INVALID: dict[str, list[str]] = {
    "SECRET_KEY": ["", "s3cret-and-short"],
    "DATABASE_URL": [
        "", "s3cret", "mysql://app:s3cret@db/x", "postgresql+asyncpg://app:s3cret@db/x", "postgresql://db/x",
        "postgresql://app:s3cret@db", "postgresql://app:s3cret@/x", "postgresql://app:s3cret@db:port/x",
        "postgresql://app:s3cret@[db/x", "postgresql://app:s3cret@db:99999/x", "postgresql://app:s3cret@db/x?sslmode",
    ],
    "PUBLIC_URL": ["fleet.example.com", "ftp://fleet.example.com"],
    "SENTRY_DSN": ["s3cret"],
    "METRICS_TOKEN": ["s3cret"],
    "KERNEX_DEBUG": ["maybe", "2"],
    "TRUSTED_PROXY": ["perhaps"],
    "KERNEX_ON_APP_PLATFORM": ["-"],
    "DATABASE_PREPARE": ["nein"],
    "TRUSTED_PROXY_HOPS": ["0", "11", "-1"],
    "KERNEX_INSTANCES": ["0", "65"],
    "DATABASE_POOL": ["65", "four", "4.5"],
    "TOKEN_REQUESTS_PER_MINUTE": ["-1", "1000001"],
    "DEVICE_REQUESTS_PER_MINUTE": ["-1"],
    "REGISTRATIONS_PER_MINUTE": ["-1"],
    "HEARTBEAT_SAMPLE_SECONDS": ["0", "86401", "1e2", "\u0663"],
    "HEARTBEAT_KEEP_DAYS": ["367"],
    "HEARTBEAT_LIMIT_SECONDS": ["-1", "3601"],
    "HEARTBEAT_LIMIT_BURST": ["0"],
    "COMMAND_KEEP_DAYS": ["0"],
    "LOG_MAX_SIZE": ["1023", "4194305"],
    "LOG_REQUEST_EXPIRY_SECONDS": ["59"],
    "LOG_KEEP_DAYS": ["0"],
    "EVENT_KEEP_DAYS": ["29"],
    "FORM_UPLOAD_MAX_SIZE": ["1048575"],
    "DEVICE_DEADLINE_SECONDS": ["9"],
    "UPLOAD_EXPIRY_SECONDS": ["59"],
    "UPLOADS_OPEN_MAX": ["7"],
    "UPLOAD_KEEP_DAYS": ["0"],
    "BLOB_KEEP_DAYS": ["0"],
    "STORAGE_ENDPOINT_URL": ["s3.example.com"],
    "STORAGE_PUBLIC_ENDPOINT_URL": ["s3.example.com"],
    "STORAGE_ACCESS_KEY": ["a key without a bucket"],
    "STORAGE_BUCKET": ["a-bucket-without-its-key"],
    "LOG_LEVEL": ["loud", "info"],
    "LOG_FORMAT": ["xml"],
    "WEB_WORKERS": ["0", "65", "two"],
    "WEB_THREADS": ["0"],
}  # fmt: skip
GUNICORN_VARIABLES = {"WEB_WORKERS", "WEB_THREADS"}
# These accept any text, or only a command reads them and has its own tests.
UNVALIDATED = {
    "ADMIN_DATABASE_URL", "ADMIN_PASSWORD", "ALLOWED_HOSTS", "BIND", "DIGITALOCEAN_APP_ID", "RUNTIME_PASSWORD",
    "SECRET_KEY_FALLBACKS", "STATIC_ROOT", "STORAGE_DIR", "STORAGE_REGION", "STORAGE_SECRET_KEY",
}  # fmt: skip
READING = re.compile(r'\benv\.(?:text|flag|number|choice|entries|database)\(\s*"([A-Z_]+)"')


def run_script(script: str, **changes: str) -> tuple[int, str]:
    """Start a process with these variables alone. Return its exit code and standard error."""
    environment = {"PATH": os.environ["PATH"], "TMPDIR": os.environ.get("TMPDIR", "/tmp"), **VALID, **changes}
    environment = {name: value for name, value in environment.items() if value}
    completed = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    return completed.returncode, completed.stderr.strip()


def test_every_variable_is_covered_here() -> None:
    files = [ROOT / "kernex/settings.py", ROOT / "gunicorn.conf.py", *ROOT.glob("[a-z]*/**/management/commands/*.py")]
    read = {name for path in files for name in READING.findall(path.read_text())}
    assert read == INVALID.keys() | UNVALIDATED


def settings_error(name: str, value: str) -> str:
    """Return the error of the settings module for one value. Runs in this process, because there are many values."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in (*INVALID, *UNVALIDATED):
            patch.delenv(variable, raising=False)
        for variable, valid_value in VALID.items():
            patch.setenv(variable, valid_value)
        patch.setenv(name, value)
        with pytest.raises(BadSetting) as refused:
            runpy.run_path(str(ROOT / "kernex/settings.py"))
    return str(refused.value)


@pytest.mark.parametrize("name", sorted(INVALID.keys() - GUNICORN_VARIABLES))
def test_a_wrong_value_ends_in_one_sentence(name: str) -> None:
    for value in INVALID[name]:
        error = settings_error(name, value)
        assert re.fullmatch(rf"{name}\b[^\n]*\.", error), (value, error)
        assert "s3cret" not in error


@pytest.mark.parametrize("name", ["DATABASE_URL", "DATABASE_POOL", *sorted(GUNICORN_VARIABLES)])
def test_the_process_prints_only_that_sentence(name: str) -> None:
    code, error = run_script(
        RUN_GUNICORN_CONFIG if name in GUNICORN_VARIABLES else IMPORT_SETTINGS, **{name: INVALID[name][-1]}
    )
    assert code == 1
    assert re.fullmatch(rf"{name}\b[^\n]*\.", error), error


def test_valid_values_are_accepted() -> None:
    assert run_script(IMPORT_SETTINGS) == (0, "")
    assert run_script(RUN_GUNICORN_CONFIG) == (0, "")
    assert run_script(
        IMPORT_SETTINGS, KERNEX_DEBUG="Off", LOG_LEVEL="DEBUG", DATABASE_POOL=" 0 ", TRUSTED_PROXY="YES"
    ) == (0, "")


def test_a_value_may_come_from_a_file(tmp_path: Path) -> None:
    """Orchestrators mount secrets as files, with a line break at the end."""
    for name, value in {**VALID, "DATABASE_POOL": "7", "TRUSTED_PROXY": "true", "ALLOWED_HOSTS": "a,b"}.items():
        (tmp_path / name).write_text(f"{value}\n")
    files = {f"{path.name}_FILE": str(path) for path in tmp_path.iterdir()}
    script = (
        f"{IMPORT_SETTINGS} as s; assert (s.DATABASE_POOL, s.TRUSTED_PROXY, s.ALLOWED_HOSTS) == (7, True, ['a', 'b'])"
    )
    assert run_script(script, SECRET_KEY="", DATABASE_URL="", **files) == (0, "")


def test_an_unreadable_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for path in ("missing", "binary", "."):
        code, error = run_script(IMPORT_SETTINGS, SECRET_KEY="", SECRET_KEY_FILE=str(tmp_path / path))
        assert code == 1
        assert re.fullmatch(r"SECRET_KEY_FILE points to [^\n]+, which cannot be read: [^\n]+\.", error), error


def test_a_setting_with_a_value_and_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("y" * 50)
    code, error = run_script(IMPORT_SETTINGS, SECRET_KEY_FILE=str(tmp_path / "key"))
    assert (code, error) == (1, "SECRET_KEY and SECRET_KEY_FILE are both set: keep one of them.")


def database(url: str) -> dict[str, Any]:
    return Environment({"DATABASE_URL": url}).database("DATABASE_URL")


def test_the_database_url_is_parsed_as_libpq_does() -> None:
    read = database("postgres://app%40x:p%2Fw%3A@[2001:db8::1]:5433/na%20me?sslmode=require&sslrootcert=/ca.pem")
    assert read == {
        "ENGINE": "django.db.backends.postgresql", "USER": "app@x", "PASSWORD": "p/w:", "HOST": "2001:db8::1",
        "PORT": "5433", "NAME": "na me", "OPTIONS": {"sslmode": "require", "sslrootcert": "/ca.pem"},
    }  # fmt: skip
    assert database("postgresql://app@db/x")["PORT"] == "5432"


def test_an_unescaped_password_is_reported_without_its_text() -> None:
    with pytest.raises(BadSetting) as refused:
        database("postgresql://app:p#ss/w[rd@db.example.com/x")
    assert "DATABASE_URL" in str(refused.value)
    assert "w[rd" not in str(refused.value)


def test_lists_are_separated_by_commas() -> None:
    env = Environment({"WORDS": " a, ,b,, c ", "NONE": " , "})
    assert env.entries("WORDS") == ["a", "b", "c"]
    assert env.entries("NONE", ["x"]) == ["x"]
    assert env.entries("MISSING") == []
