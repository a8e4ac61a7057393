"""The image's entry point: the program that each name starts, tested with fakes for gunicorn and python."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.live import ROOT

ENTRY = ROOT / "deploy" / "entry"


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Fakes of `gunicorn` and `python` that print their process id, directory and arguments."""
    for name in ("gunicorn", "python"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho "$$ $PWD {name} $*"\n')
        program.chmod(0o755)
    return tmp_path


def started(programs: Path, entry: Path, *arguments: str) -> str:
    """Return the command that was started. It must replace the entry point's process, or SIGTERM would be lost."""
    environment = {"PATH": f"{programs}:/usr/bin:/bin"}
    process = subprocess.Popen([entry, *arguments], env=environment, stdout=subprocess.PIPE, text=True, cwd="/")
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    pid, directory, text = out.strip().split(" ", 2)
    assert int(pid) == process.pid
    assert directory == str(ROOT)
    return text


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ([], "gunicorn -c gunicorn.conf.py kernex.wsgi"),
        (["web"], "gunicorn -c gunicorn.conf.py kernex.wsgi"),
        (["web", "--log-level", "debug"], "gunicorn -c gunicorn.conf.py --log-level debug kernex.wsgi"),
        (["scheduler"], "python manage.py run_scheduler"),
        (["scheduler", "--once"], "python manage.py run_scheduler --once"),
        (["migrate"], "python manage.py migrate --no-input"),
        (["backup", "/backups", "--blobs"], "python manage.py backup /backups --blobs"),
        (["nightly", "03:17", "backup", "/backups"], "python deploy/nightly 03:17 backup /backups"),
        (["grant_perms", "--check"], "python manage.py grant_perms --check"),
        (["create_operator", "two words"], "python manage.py create_operator two words"),
    ],
)
def test_a_name_starts_a_program(programs: Path, arguments: list[str], command: str) -> None:
    assert started(programs, ENTRY, *arguments) == command


@pytest.mark.parametrize("name", ["web", "scheduler", "migrate", "backup", "nightly"])
def test_the_name_of_a_link_selects_the_program(programs: Path, name: str) -> None:
    link = programs / "bin" / name
    link.parent.mkdir()
    link.symlink_to(ENTRY)
    assert started(programs, link, "--help").split()[-1 if name != "web" else -2] == "--help"


def test_the_exit_code_is_the_programs(programs: Path) -> None:
    (programs / "python").write_text("#!/bin/sh\nexit 7\n")
    environment = {"PATH": f"{programs}:{os.environ['PATH']}"}
    assert subprocess.run([ENTRY, "migrate"], env=environment, check=False).returncode == 7
