"""The grammar of queries: what the parser accepts, and where it says that a query is wrong."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foundation.queries.errors import BadQuery
from foundation.queries.parser import MAX_DEPTH, MAX_TERMS, MAX_VALUES, parse
from foundation.queries.syntax import And, Comparison, IsIn, IsSet, Node, Not, Or, Word


def outline(node: Node) -> str:
    """Write a tree with all its parentheses."""
    match node:
        case And(terms):
            return f"({' & '.join(map(outline, terms))})"
        case Or(terms):
            return f"({' | '.join(map(outline, terms))})"
        case Not(term):
            return f"!{outline(term)}"
        case Word(text):
            return repr(text)
        case IsSet(field):
            return f"{field.text}?"
        case IsIn(field, values):
            return f"{field.text} in {','.join(value.text for value in values)}"
        case Comparison(field, operator, value):
            return f"{field.text}{operator}{value.text}{' ago' if value.is_ago else ''}"


@pytest.mark.parametrize(
    ("query", "tree"),
    [
        ("bench-1", "'bench-1'"),
        ('"and more"', "'and more'"),
        ("name = bench-1", "name=bench-1"),
        ("name=bench-1", "name=bench-1"),
        ('name = "a \\"b\\" \\\\ c"', 'name=a "b" \\ c'),
        ("runs.svc = 1.4.0 and health = unhealthy", "(runs.svc=1.4.0 & health=unhealthy)"),
        ("a b c", "('a' & 'b' & 'c')"),
        ("a b or c d", "(('a' & 'b') | ('c' & 'd'))"),
        ("a and not b or c", "(('a' & !'b') | 'c')"),
        ("not a b", "(!'a' & 'b')"),
        ("not (a or b)", "!('a' | 'b')"),
        ("NOT a AND b OR c", "((!'a' & 'b') | 'c')"),
        ("last_heartbeat < 10m ago", "last_heartbeat<10m ago"),
        ("registered > 2026-11-24T10:00Z", "registered>2026-11-24T10:00Z"),
        ("group in (lab, field)", "group in lab,field"),
        ('group in ("a b",c)', "group in a b,c"),
        ("attr.board is set", "attr.board?"),
        ("attr.board is not set", "!attr.board?"),
        ("tag = site:north", "tag=site:north"),
        ("metric.x >= -1.5", "metric.x>=-1.5"),
        ("  a  ", "'a'"),
    ],
)
def test_queries_become_trees(query: str, tree: str) -> None:
    assert outline(parse(query)) == tree


@pytest.mark.parametrize(
    ("query", "marked", "message"),
    [
        ("", "", "The query ends here; expected a field"),
        ("name =", "", "The query ends here; expected a value"),
        ("name = )", ")", "')' is not allowed here; expected a value"),
        ("(a", "", "The query ends here; expected `and`, `or` or `)`"),
        ("a)", ")", "expected `and`, `or` or the end of the query"),
        ("a or", "", "The query ends here"),
        ("= b", "=", "'=' is not allowed here"),
        ("a = b = c", "=", "'=' is not allowed here"),
        ('name = "open', '"open', "This quotation mark is not closed"),
        ("group in lab", "lab", "expected `(`"),
        ("group in (lab field)", "field", "expected `,` or `)`"),
        ("a is empty", "empty", "expected `not` or `set`"),
        ("a is not empty", "empty", "expected `set`"),
        ("a ! b", "!", "'!' cannot be used here"),
        ("a, b", ",", "',' is not allowed here"),
    ],
)
def test_an_error_marks_the_place(query: str, marked: str, message: str) -> None:
    with pytest.raises(BadQuery) as caught:
        parse(query)
    error = caught.value
    assert message in str(error)
    assert query[error.position : error.position + error.length] == marked


@pytest.mark.parametrize(
    "query",
    [
        "(" * (MAX_DEPTH + 1) + "a" + ")" * (MAX_DEPTH + 1),
        "not " * (MAX_DEPTH + 1) + "a",
        " ".join(["a"] * (MAX_TERMS + 1)),
        f"name in ({','.join(['a'] * (MAX_VALUES + 1))})",
        "a" * 4097,
        "ä" * 2049,
        "a\x00b",
        "a\ud800b",
    ],
    ids=["parentheses", "negations", "terms", "values", "bytes", "bytes of UTF-8", "NUL", "a surrogate"],
)
def test_a_query_has_limits(query: str) -> None:
    with pytest.raises(BadQuery):
        parse(query)


def test_the_limits_themselves_are_allowed() -> None:
    parse("(" * MAX_DEPTH + "a" + ")" * MAX_DEPTH)
    parse(" ".join(["a"] * MAX_TERMS))
    parse(f"name in ({','.join(['a'] * MAX_VALUES)})")


TOKENS = st.sampled_from(["a", "=", "(", ")", "not", "in", "is", '"', ","])


@given(st.text(max_size=60) | st.lists(TOKENS, max_size=12).map(" ".join))
def test_no_text_breaks_the_parser(query: str) -> None:
    with suppress(BadQuery):
        parse(query)
