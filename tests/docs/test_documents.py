"""What the documents say exists, and what exists stands in them."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.live import ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("*/README.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
READ_BY = ("kernex/settings.py", "gunicorn.conf.py", "[a-z]*/**/management/commands/*.py")
READING = re.compile(r'\benv\.(?:text|flag|number|choice|words|database)\(\s*"([A-Z_]+)"')
# Read by a library, or set by the platform that Kernex runs on.
READ_ELSEWHERE = {"PROMETHEUS_MULTIPROC_DIR"}


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as the usual viewers make them."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_its_links_lead_somewhere(document: Path) -> None:
    lost = []
    for link in LINK.findall(document.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []


def test_every_document_is_linked_from_the_readme() -> None:
    linked = set(LINK.findall((ROOT / "README.md").read_text()))
    assert {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")} - linked == set()


def settings_read() -> set[str]:
    files = [path for pattern in READ_BY for path in ROOT.glob(pattern)]
    return {name for path in files for name in READING.findall(path.read_text())} | READ_ELSEWHERE


def settings_documented() -> set[str]:
    return set(re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs/configuration.md").read_text(), re.MULTILINE))


def test_every_setting_is_documented_and_every_documented_one_is_read() -> None:
    assert len(settings_read()) > 25
    assert settings_documented() == settings_read()


def test_every_target_of_make_says_what_it_does() -> None:
    lines = (ROOT / "Makefile").read_text().splitlines()
    targets = [line for line in lines if re.match(r"[a-z-]+:", line)]
    assert [line for line in targets if "## " not in line] == []
    listed = subprocess.run(["make", "-C", ROOT, "--no-print-directory"], capture_output=True, text=True, check=True)
    assert listed.stdout.count("make ") == len(targets)


def test_the_readme_is_a_screen_and_a_half() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 90
