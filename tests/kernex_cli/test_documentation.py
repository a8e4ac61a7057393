"""docs/command-line.md describes every command, option and exit code; every command has a test and examples."""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernex_cli.errors import Exit
from kernex_cli.main import build_parser

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENT = (ROOT / "docs" / "command-line.md").read_text("utf-8")
COMMON = {"--help", "--json", "--server", "--retry-for", "--verbose"}


def commands(parser: argparse.ArgumentParser, *names: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    subcommands = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    for action in subcommands:
        for name, subparser in action.choices.items():
            yield from commands(subparser, *names, name)
    if not subcommands:
        yield " ".join(names), parser


COMMANDS = dict(commands(build_parser()))


def section(command: str) -> str:
    match = re.search(rf"^### `kernex {command}\b.*?(?=^##|\Z)", DOCUMENT, re.DOTALL | re.MULTILINE)
    assert match, f"`kernex {command}` has no section"
    return match[0]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_and_its_options_are_documented(command: str) -> None:
    options = {
        option for action in COMMANDS[command]._actions for option in action.option_strings if option[:2] == "--"
    }
    text = section(command)
    assert [option for option in sorted(options - COMMON) if f"`{option}" not in text] == []
    general = DOCUMENT.partition("## Options of every command")[2].partition("\n## ")[0]
    assert [option for option in sorted(COMMON) if f"`{option}" not in general] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_the_document_describes_no_other_options(command: str) -> None:
    options = {option for action in COMMANDS[command]._actions for option in action.option_strings}
    assert set(re.findall(r"`(--[a-z-]+)", section(command))) <= options


def test_the_document_describes_no_other_commands() -> None:
    documented = re.findall(r"^### `kernex ([a-z]+(?: [a-z]+)*)", DOCUMENT, re.MULTILINE)
    assert sorted(documented) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_gives_examples(command: str) -> None:
    assert f"  kernex {command}" in COMMANDS[command].format_help()


@pytest.mark.parametrize("group", sorted({command.split()[0] for command in COMMANDS if " " in command}))
def test_the_help_of_a_command_group_gives_examples(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args([group, "--help"])
    assert f"  kernex {group} " in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_is_tested(command: str) -> None:
    arguments = ", ".join(f'"{name}"' for name in command.split())
    tests = [path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py") if path != Path(__file__)]
    assert any(f"({arguments}" in text or f"[{arguments}" in text for text in tests)


def test_the_exit_codes_are_documented() -> None:
    table = DOCUMENT.partition("## Exit codes")[2].partition("\n## ")[0]
    assert [int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)] == sorted(Exit)
