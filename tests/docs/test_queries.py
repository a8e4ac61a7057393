"""docs/queries.md lists each field of queries with its operators."""

import re

import pytest

from devices.queries.fields import Field
from devices.queries.registry import query_fields
from tests.live import ROOT

ROWS = dict(re.findall(r"^\| `([^`]+)` \| [^|]+ \| ([^|]+) \|$", (ROOT / "docs/queries.md").read_text(), re.MULTILINE))


@pytest.mark.parametrize("field", query_fields().values(), ids=query_fields())
def test_each_field_is_documented(field: Field) -> None:
    assert re.findall("`([^`]+)`", ROWS[field.title]) == list(field.operators)


def test_only_fields_are_documented() -> None:
    assert set(ROWS) == set(query_fields())
