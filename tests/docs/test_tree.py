"""Rules for every file of the repository."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.live import ROOT

MAX_LINES = 300
# A lock file must not contain any of these: they would bind it to one machine's registry.
REGISTRY_OPTIONS = ("--index-url", "--extra-index-url", "--find-links", "--trusted-host", "file:", "://")


def tracked(*patterns: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z", *patterns], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]


def requirements(ending: str) -> list[Path]:
    return tracked(f"*requirements*.{ending}")


def test_no_python_file_is_too_long() -> None:
    sources = [path for path in tracked("*.py") if "tests" not in path.relative_to(ROOT).parts]
    assert sources
    assert {str(path) for path in sources if len(path.read_text().splitlines()) > MAX_LINES} == set()


@pytest.mark.parametrize("path", requirements("txt"), ids=lambda path: str(path.relative_to(ROOT)))
def test_requirements_are_hashed_and_not_bound_to_a_registry(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    assert [line for line in lines if any(option in line for option in REGISTRY_OPTIONS)] == []
    text = "\n".join(lines).replace("\\\n", " ")
    pins = [line for line in text.splitlines() if line.strip()]
    assert pins
    assert [pin for pin in pins if not re.match(r"\S+==\S+.*--hash=sha256:[0-9a-f]{64}", pin)] == []


@pytest.mark.parametrize("path", requirements("in"), ids=lambda path: str(path.relative_to(ROOT)))
def test_each_dependency_has_a_reason(path: Path) -> None:
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.startswith(("#", "-r", "-c"))]
    assert lines
    assert [line for line in lines if not re.search(r"\s#\s+\S", line)] == []


def test_no_key_database_or_secret_is_committed() -> None:
    names = re.compile(r"\.(pem|key|p12|pfx|sqlite3?|db|env|tfstate|tfvars)$|(^|/)id_(rsa|ed25519)$")
    assert [path for path in tracked() if names.search(path.name)] == []
    private = re.compile("BEGIN [A-Z ]*PRIVATE " + "KEY")
    texts = tracked("*.py", "*.md", "*.json", "*.toml", "*.tf", "*.yaml", "*.yml", "*.sh")
    assert [path for path in texts if private.search(path.read_text())] == []


def test_imports_are_absolute_and_at_the_top_of_the_file() -> None:
    nested = re.compile(r"^[ \t]+(?:from [\w.]+ )?import ", re.MULTILINE)
    relative = re.compile(r"^\s*from \.", re.MULTILINE)
    package_files = tracked(
        "kernex", "operations", "deployments", "devices", "bundles", "foundation", "agent", "kernex_cli"
    )
    sources = {path: path.read_text() for path in package_files if path.suffix == ".py"}
    assert [path for path, text in sources.items() if relative.search(text)] == []
    nested_imports = [
        path for path, text in sources.items() if nested.search(re.sub(r"if TYPE_CHECKING:.*\n(    .*\n)+", "", text))
    ]
    assert nested_imports == []
