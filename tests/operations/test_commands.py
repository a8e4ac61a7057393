"""Every management command of Kernex is documented, is tested and has help texts."""

import re
import subprocess
import sys

import pytest
from django.core.management import get_commands, load_command_class

from tests.operations.databases import ROOT

APPS = ("operations", "deployments", "devices", "bundles", "foundation")
COMMANDS = sorted(name for name, app in get_commands().items() if str(app).partition(".")[0] in APPS)
DOCUMENTS = "\n".join(path.read_text() for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
TESTS = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py") if path.name != "test_commands.py")


def test_the_list_has_the_known_commands() -> None:
    assert {"create_operator", "grant_perms", "migrate", "run_scheduler"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_it_is_documented(name: str) -> None:
    assert re.search(rf"manage\.py {name}\b", DOCUMENTS)


@pytest.mark.parametrize("name", COMMANDS)
def test_it_is_tested(name: str) -> None:
    """A test runs the command by its name."""
    constants = re.findall(rf'^([A-Z_]+) = "{name}"$', TESTS, re.MULTILINE)
    mentions = "|".join([f'"{name}"', *(rf"\b{constant}\b" for constant in constants)])
    assert re.search(rf"(call_command|manage|manage\.py|run|Popen|command)[^\n]*[(\[ ,]({mentions})", TESTS)


@pytest.mark.parametrize("name", COMMANDS)
def test_it_and_each_option_have_a_help_text(name: str) -> None:
    command = load_command_class(str(get_commands()[name]), name)
    assert command.help.strip().endswith(".")
    parser = command.create_parser("manage.py", name)
    assert [action.dest for action in parser._actions if not action.help] == []


# Prints the help of each command in one process: a separate process for each takes half a minute.
SHOW_HELP = """
import sys
from django.core.management import execute_from_command_line
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "kernex.settings"
for name in sys.argv[1:]:
    try:
        execute_from_command_line(["manage.py", name, "--help"])
    except SystemExit as exit:
        assert exit.code == 0, name
"""


def test_help_needs_no_database() -> None:
    environment = {
        "PATH": "/usr/bin:/bin", "SECRET_KEY": "x" * 50, "DATABASE_URL": "postgresql://app@127.0.0.1:1/nothing",
    }  # fmt: skip
    result = subprocess.run(
        [sys.executable, "-c", SHOW_HELP, *COMMANDS], cwd=ROOT, env=environment, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert (result.returncode, result.stderr) == (0, "")
    assert [name for name in COMMANDS if f"usage: manage.py {name}" not in result.stdout] == []
