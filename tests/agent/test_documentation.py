"""docs/agent.md documents every option, exit code, reason code and command."""

import ast
import re
from pathlib import Path

from agent.config import OPTIONS, PREFIX
from agent.errors import ExitCode
from agent.jobs.commands import HANDLERS
from agent.main import EXAMPLES, INTERRUPTED

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs/agent.md").read_text()


def test_every_option_is_in_the_table_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (.+) \| (.+) \|$", PAGE, re.MULTILINE)
    assert [(name, variable) for name, variable, _, _ in rows] == [(name, PREFIX + name.upper()) for name in OPTIONS]
    for name, _, description, default in rows:
        option = OPTIONS[name]
        assert description == option.metadata["description"]
        shown = str(option.default).lower() if isinstance(option.default, bool) else str(option.default) or "none"
        assert default.split()[0] == shown.split()[0]


def test_every_exit_code_is_in_the_page_and_in_the_help() -> None:
    codes = {int(code) for code in re.findall(r"^\| (\d+) \| ", PAGE, re.MULTILINE)}
    assert codes == {*ExitCode, INTERRUPTED}
    assert {int(code) for code in re.findall(r"(?:^|\s)(\d+)  \w", EXAMPLES)} == codes


def reason_codes() -> set[str]:
    """Return the first argument of every `InstallationFailed(…)` in the agent's code."""
    codes: set[str] = set()
    for path in (ROOT / "agent").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "InstallationFailed":
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    codes.add(str(first.value))
    return codes


def test_every_reason_code_is_documented() -> None:
    section = PAGE.partition("## What the agent reports")[2].partition("\n## ")[0]
    documented = set(re.findall(r"`([a-z_]+)`", section))
    codes = reason_codes()
    assert len(codes) >= 8
    assert codes - documented == set()


def test_every_kind_of_command_is_documented() -> None:
    section = PAGE.partition("## Commands")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == HANDLERS.keys()
