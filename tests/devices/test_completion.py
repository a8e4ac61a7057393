"""Completion of queries: names of fields and values, at every place of a query."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from devices.models import Device
from devices.queries import suggestions
from devices.queries.completion import MAX_SUGGESTIONS, complete
from foundation.queries.errors import BadQuery
from foundation.queries.parser import parse
from tests.factories import make_bundle, make_device, make_group

STATES = ["pending", "accepted", "decommissioned"]


@pytest.fixture
def fleet(db: None) -> None:
    make_group("dynamic", query="name ~ a")
    make_device(group=make_group("Lab"), tags=["site:north", "canary"], device_type="edge-r5")
    make_device(group=make_group("field"), tags=["site:south"], device_type="cam")
    for label in ("svc@1", "svc@2", "vad@1"):
        make_bundle(label)


@pytest.mark.parametrize(
    ("text", "start", "texts"),
    [
        ("hea", 0, ["health"]),
        ("HEA", 0, ["health"]),
        ("type = cam and ag", 15, ["agent"]),
        ("type = cam ag", 11, ["agent"]),
        ("(ru", 1, ["runs."]),
        ("not re", 4, ["registered"]),
        ("dep", 0, ["deployment", "deployment."]),
        ("runs.s", 0, ["runs.svc"]),
        ("runs.", 0, ["runs.svc", "runs.vad"]),
        ("verdict.v", 0, ["verdict.vad."]),
        ("attr.b", 0, []),
        ("xyz", 0, []),
        ("state = ", 8, STATES),
        ("state=", 6, STATES),
        ("state != p", 9, ["pending"]),
        ('state = "p', 8, ["pending"]),
        ("state in (", 10, STATES),
        ("state in (pending, ", 19, STATES),
        ("state in (pending, accepted,d", 28, ["decommissioned"]),
        ("health = u", 9, ["unhealthy", "unknown"]),
        ("online = ", 9, ["true", "false"]),
        ("group = ", 8, ["Lab", "field"]),
        ("group = la", 8, ["Lab"]),
        ("tag = site", 6, ["site:north", "site:south"]),
        ("tag = canary or tag = C", 22, ["canary"]),
        ("type = ", 7, ["cam", "edge-r5"]),
        ("drift = ", 8, ["true", "false", "svc", "vad"]),
        ("name = ", 7, []),
        ("agnet = ", 8, []),
        ("state in", 8, []),
        ("a, b", 4, []),
        ('name = "x" and "y', 17, []),
    ],
)
def test_it_completes(fleet: None, text: str, start: int, texts: list[str]) -> None:
    completion = complete(text)
    assert [suggestion.text for suggestion in completion.suggestions] == texts
    if texts:
        assert completion.start == start


def test_values_that_are_no_words_are_quoted(db: None) -> None:
    make_device(device_type='a "b" c')
    make_device(device_type="and")
    completion = complete("type = a")
    assert [suggestion.text for suggestion in completion.suggestions] == [r'"a \"b\" c"', '"and"']


def test_an_empty_query_may_begin_with_any_field(db: None) -> None:
    completion = complete("")
    assert len(completion.suggestions) == MAX_SUGGESTIONS
    assert (completion.start, completion.is_value) == (0, False)
    assert completion.suggestions[0].hint == 'name ~ "door"'


def test_answers_are_bounded(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    group = make_group("g")
    Device.objects.bulk_create(
        Device(public_key=f"{number:043}", group=group, device_type=f"t{number:03}", tags=[f"tag-{number:03}"])
        for number in range(60)
    )
    for number in range(30):
        make_group(f"g{number}")
    for text in ("type = ", "tag = t", "group = g"):
        with CaptureQueriesContext(connection) as queries:
            assert len(complete(text).suggestions) == MAX_SUGGESTIONS
        assert len(queries) == 1
    monkeypatch.setattr(suggestions, "NEWEST_DEVICES", 3)
    assert [each.text for each in complete("tag = ").suggestions] == ["tag-057", "tag-058", "tag-059"]
    assert len(complete("type = ").suggestions) == 3


@given(text=st.text(alphabet='ab =<>!~(),."\\ngtypesinot', max_size=30))
def test_a_suggestion_never_makes_a_correct_beginning_wrong(text: str) -> None:
    """A choice that is accepted can be parsed wherever what precedes it can."""
    completion = complete(f"{text} or (state = ")
    for suggestion in completion.suggestions:
        accepted = f"{text} or (state = {suggestion.text})"
        try:
            parse(f"{text} or (a = b)")
        except BadQuery:
            continue
        parse(accepted)
