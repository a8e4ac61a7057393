"""The documented error codes are those of the server."""

import ast
import re

from tests.live import ROOT

PACKAGES = ("kernex", "operations", "deployments", "devices", "bundles", "foundation")


def syntax_trees() -> list[ast.Module]:
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return [ast.parse(path.read_text()) for path in paths if "migrations" not in path.relative_to(ROOT).parts]


def error_classes(trees: list[ast.Module]) -> set[str]:
    """Return the names of `ApiError` and its subclasses."""
    error_names, size = {"ApiError"}, 0
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    while len(error_names) > size:
        size = len(error_names)
        error_names |= {
            definition.name
            for definition in classes
            if any(isinstance(base, ast.Name) and base.id in error_names for base in definition.bases)
        }
    return error_names


def codes() -> set[str]:
    trees = syntax_trees()
    error_names = error_classes(trees)
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    raised = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id in error_names and call.args]
    return {str(call.args[0].value) for call in raised if isinstance(call.args[0], ast.Constant)}


def test_every_code_is_documented() -> None:
    documented = {
        code for page in (ROOT / "docs").glob("*.md") for code in re.findall(r"`([a-z_0-9]+)`", page.read_text())
    }
    assert len(codes()) > 60
    assert codes() - documented == set()


def test_every_code_of_the_table_exists() -> None:
    """Three codes come from Django REST framework and the permission classes, not from `ApiError`."""
    table = (ROOT / "docs/api.md").read_text().partition("## Errors")[2]
    rows = re.findall(r"^\| (?:\d+|other) \| (.+?) \|", table, re.MULTILINE)
    table_codes = {code for row in rows for code in re.findall(r"`([a-z_0-9]+)`", row)}
    assert len(table_codes) > 40
    assert table_codes - codes() == {"not_authenticated", "authentication_failed", "role_forbids"}
