"""The documents match the repository: links, settings, make targets."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.live import ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("*/README.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SETTING_READERS = ("kernex/settings.py", "gunicorn.conf.py", "[a-z]*/**/management/commands/*.py")
SETTING_READ = re.compile(r'\benv\.(?:text|flag|number|choice|entries|database)\(\s*"([A-Z_]+)"')
# Settings that a library reads, or that the platform sets.
READ_ELSEWHERE = {"PROMETHEUS_MULTIPROC_DIR"}


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub generates them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_resolve(document: Path) -> None:
    broken_links = []
    for link in LINK.findall(document.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken_links.append(link)
    assert broken_links == []


def test_every_document_is_linked_from_the_readme() -> None:
    linked = set(LINK.findall((ROOT / "README.md").read_text()))
    assert {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} - linked == set()


def settings_read() -> set[str]:
    files = [path for pattern in SETTING_READERS for path in ROOT.glob(pattern)]
    return {name for path in files for name in SETTING_READ.findall(path.read_text())} | READ_ELSEWHERE


def settings_documented() -> set[str]:
    return set(re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs/configuration.md").read_text(), re.MULTILINE))


def test_the_documented_settings_are_exactly_those_that_are_read() -> None:
    assert len(settings_read()) > 25
    assert settings_documented() == settings_read()


def test_every_make_target_has_a_help_text() -> None:
    lines = (ROOT / "Makefile").read_text().splitlines()
    targets = [line for line in lines if re.match(r"[a-z-]+:", line)]
    assert [line for line in targets if "## " not in line] == []
    help_output = subprocess.run(
        ["make", "-C", ROOT, "--no-print-directory"], capture_output=True, text=True, check=True
    )
    assert help_output.stdout.count("make ") == len(targets)


def test_the_readme_has_at_most_90_lines() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 90
