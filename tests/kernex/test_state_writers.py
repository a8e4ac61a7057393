"""Guard: only `foundation/state_machine.py` writes the `state` of an existing row."""

import ast
import re

import pytest

from tests.live import ROOT

PACKAGES = ("kernex", "operations", "deployments", "devices", "bundles", "foundation")
PRIMITIVE = "foundation/state_machine.py"
WRITING_CALLS = {"update", "bulk_update", "update_or_create", "save", "setattr"}
SQL = re.compile(r"\bUPDATE\b[^;]*\bSET\b(?:(?!\bWHERE\b|\bFROM\b)[^;])*?[\s,(\"]state\"?\s*=", re.IGNORECASE)


def writing_lines(tree: ast.AST) -> list[int]:
    """Return the lines of a module that write a state."""
    return [node.lineno for node in ast.walk(tree) if isinstance(node, ast.stmt | ast.expr) and is_writer(node)]


def is_writer(node: ast.stmt | ast.expr) -> bool:
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        return name in WRITING_CALLS and names_state(node)
    if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return any(isinstance(part, ast.Attribute) and part.attr == "state" for part in targets)
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and bool(SQL.search(node.value))
    return isinstance(node, ast.FunctionDef) and passes_a_dict_with_state(node)


def names_state(call: ast.Call) -> bool:
    """Return whether a call writes a state, such as `update(state=…)` or `save(update_fields=["state"])`."""
    if any(keyword.arg == "state" for keyword in call.keywords):
        return True
    lists = [keyword.value for keyword in call.keywords if keyword.arg in {"update_fields", "fields"}]
    literals = [part for argument in (*call.args, *lists) for part in (argument, *getattr(argument, "elts", []))]
    return any(isinstance(literal, ast.Constant) and literal.value == "state" for literal in literals)


def passes_a_dict_with_state(function: ast.FunctionDef) -> bool:
    """Return whether a function has `changes = {"state": …}` and `.update(**changes)`."""
    parts = list(ast.walk(function))
    assigned = {
        target.id
        for part in parts
        if isinstance(part, ast.Assign) and '"state"' in ast.unparse(part.value).replace("'", '"')
        for target in part.targets
        if isinstance(target, ast.Name)
    }
    return any(
        isinstance(keyword.value, ast.Name) and keyword.value.id in assigned
        for part in parts
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute) and part.func.attr == "update"
        for keyword in part.keywords
        if keyword.arg is None
    )


@pytest.mark.parametrize(
    "code",
    [
        "rows.update(state='x')",
        "rows.filter(a=1).update(b=2, state=S.X)",
        "row.state = 'x'",
        "row.state: str = 'x'",
        "row.save(update_fields=['state'])",
        "Row.objects.bulk_update(rows, ['state'])",
        "setattr(row, 'state', 'x')",
        "def f():\n    changes = {'state': 1}\n    rows.update(**changes)",
        "SQL = 'UPDATE t SET a = 1, state = %s WHERE state = %s'",
        "SQL = 'UPDATE t SET state = %s'",
        "SQL = 'INSERT INTO t (state) VALUES (1) ON CONFLICT (id) DO UPDATE SET state = 1'",
    ],
)
def test_the_guard_finds_a_writer(code: str) -> None:
    assert writing_lines(ast.parse(code))


@pytest.mark.parametrize(
    "code",
    [
        "Row(state='x')",
        "Row.objects.create(state='x')",
        "rows.filter(state='x').update(a=1)",
        "SQL = \"UPDATE t SET a = 1 FROM u WHERE u.state = 'accepted'\"",
        "answer = {'state': row.state}",
        "rows.transition_to(State.X)",
    ],
)
def test_the_guard_ignores_readers_and_new_rows(code: str) -> None:
    assert not writing_lines(ast.parse(code))


def test_only_the_primitive_writes_a_state() -> None:
    violations = {}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            name = str(path.relative_to(ROOT))
            if "migrations" in path.parts or name == PRIMITIVE:
                continue
            if lines := writing_lines(ast.parse(path.read_text())):
                violations[name] = lines
    assert not violations, "Change states by `transition_to` (foundation/state_machine.py)."
