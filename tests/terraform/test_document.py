"""docs/infrastructure.md: the commands and the facts about the provider that it names."""

import re

from tests.live import ROOT
from tests.terraform.provider_schema import ADDED_LATER, BINDINGS, CHECKED, GAINED

DOCUMENT = (ROOT / "docs" / "infrastructure.md").read_text()
SOURCES = "".join(path.read_text() for path in (ROOT / "terraform").rglob("*.tf"))


def test_its_commands_name_existing_outputs() -> None:
    outputs = set(re.findall(r'^output "(\w+)"', SOURCES, re.M))
    named = set(re.findall(r"terraform output (?:-raw |-json )?(\w+)", DOCUMENT))
    assert len(named) > 8
    assert named - outputs == {"NAME"}


def test_its_commands_are_existing_management_commands() -> None:
    patterns = ("*/management/commands/*.py", "*/*/management/commands/*.py")
    existing = {path.stem for pattern in patterns for path in ROOT.glob(pattern)} | {"migrate"}
    named = set(re.findall(r"manage\.py (\w+)", DOCUMENT))
    assert "grant_perms" in named
    assert named - existing == set()


def test_it_says_against_which_version_each_resource_was_checked() -> None:
    used = set(re.findall(r'^(?:resource|data) "(\w+)"', SOURCES, re.M))
    assert used == set(GAINED)
    chapter = DOCUMENT.partition("## What the tests cover")[2]
    assert {version for version in (BINDINGS, CHECKED) if version not in chapter} == set()
    assert {name for name in used if f"`{name}`" not in chapter} == set()
    for name, (version, _) in ADDED_LATER.items():
        assert f"`{name}`" in chapter
        assert version in chapter


def test_terraform_demands_a_version_with_everything_that_it_uses() -> None:
    demanded = re.search(r'version = ">= ([\d.]+), < 3\.0\.0"', SOURCES)
    assert demanded is not None
    newest = max((tuple(map(int, version.split("."))) for version, _ in ADDED_LATER.values()), default=(0,))
    assert tuple(map(int, demanded[1].split("."))) >= newest
