"""What docs/infrastructure.md tells people to type."""

import re

from tests.live import ROOT

DOCUMENT = (ROOT / "docs" / "infrastructure.md").read_text()


def test_its_commands_name_outputs_that_there_are() -> None:
    outputs = set(
        re.findall(r'^output "(\w+)"', "".join(p.read_text() for p in (ROOT / "terraform").glob("*.tf")), re.M)
    )
    asked = set(re.findall(r"terraform output (?:-raw |-json )?(\w+)", DOCUMENT))
    assert len(asked) > 8
    assert asked - outputs == {"NAME"}


def test_its_commands_are_management_commands_that_there_are() -> None:
    there = {path.stem for path in ROOT.glob("[a-z]*/**/management/commands/*.py")}
    asked = set(re.findall(r"manage\.py (\w+)", DOCUMENT))
    assert asked - there == set()
