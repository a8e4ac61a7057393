"""docs/agent.md says what the agent has: every option, every exit code, every reason code."""

import ast
import re
from pathlib import Path

from agent.config import OPTIONS, PREFIX
from agent.errors import Exit
from agent.main import EXAMPLES, INTERRUPTED

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs/agent.md").read_text()
# Words in the place of a reason code that are none: whole states, and what never leaves the device.
RAISING = {"InstallationFailed", "refused", "_refuse", "JobResult"}


def test_every_option_is_in_the_table_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (.+) \| (.+) \|$", PAGE, re.MULTILINE)
    assert [(name, variable) for name, variable, _, _ in rows] == [(name, PREFIX + name.upper()) for name in OPTIONS]
    for name, _, sentence, default in rows:
        known = OPTIONS[name]
        assert sentence == known.metadata["sentence"]
        shown = str(known.default).lower() if isinstance(known.default, bool) else str(known.default) or "none"
        assert default.split()[0] == shown.split()[0]


def test_every_exit_code_is_documented_and_helped() -> None:
    codes = {int(code) for code in re.findall(r"^\| (\d+) \| ", PAGE, re.MULTILINE)}
    assert codes == {*Exit, INTERRUPTED}
    assert {int(code) for code in re.findall(r"(?:^|\s)(\d+)  \w", EXAMPLES)} == codes


def reason_codes() -> set[str]:
    """The first word of every `InstallationFailed(…)` in the agent's code."""
    found: set[str] = set()
    for path in (ROOT / "agent").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "InstallationFailed":
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    found.add(str(first.value))
    return found


def test_every_reason_code_is_documented() -> None:
    section = PAGE.partition("## What it reports")[2].partition("\n## ")[0]
    documented = set(re.findall(r"`([a-z_]+)`", section))
    found = reason_codes()
    assert len(found) >= 8
    assert found - documented == set()
