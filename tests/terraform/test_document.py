"""What docs/infrastructure.md tells people to type."""

import re

import pytest
from django.db import connection

from deployments.models import Hold
from tests.live import ROOT

DOCUMENT = (ROOT / "docs" / "infrastructure.md").read_text()


@pytest.mark.django_db
def test_its_statement_holds_deployments() -> None:
    (statement,) = re.findall(r'"(INSERT INTO deployments_hold [^"]*)"', DOCUMENT)
    with connection.cursor() as cursor:
        cursor.execute(statement)
    assert [hold.reason for hold in Hold.objects.active()] == ["restored by DigitalOcean"]


def test_its_commands_name_outputs_that_there_are() -> None:
    outputs = set(
        re.findall(r'^output "(\w+)"', "".join(p.read_text() for p in (ROOT / "terraform").glob("*.tf")), re.M)
    )
    asked = set(re.findall(r"terraform output (?:-raw |-json )?(\w+)", DOCUMENT))
    assert len(asked) > 8
    assert asked - outputs == {"NAME"}


def test_its_commands_are_management_commands_that_there_are() -> None:
    there = {path.stem for path in (ROOT / "kernex" / "management" / "commands").glob("*.py")}
    asked = set(re.findall(r"manage\.py (\w+)", DOCUMENT))
    assert asked - there == set()
