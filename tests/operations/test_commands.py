"""Every management command of Kernex is documented, is tested and has help texts."""

import re

import pytest
from django.core.management import get_commands, load_command_class

from tests.operations.databases import ROOT, manage

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


def test_help_needs_no_database() -> None:
    environment = {
        "PATH": "/usr/bin:/bin", "SECRET_KEY": "x" * 50, "DATABASE_URL": "postgresql://app@127.0.0.1:1/nothing",
    }  # fmt: skip
    for name in COMMANDS:
        result = manage(environment, name, "--help")
        assert (result.code, result.err) == (0, ""), name
        assert result.out.startswith("usage: manage.py ")
