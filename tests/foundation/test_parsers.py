"""Property tests of body and header parsing: generated input, a fixed seed."""

import json
import math
import re
from ipaddress import ip_address
from typing import Any

import pytest
from django.test import RequestFactory, override_settings
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest_django import Settings

from foundation.api import request_id
from foundation.api.client_address import client_address, is_from_this_machine
from foundation.api.parsers import MAX_DEPTH, parse_json
from foundation.errors import BadRequest

# Each run uses the same examples, so that a failure is reproducible.
bounded = settings(derandomize=True, database=None, deadline=None, max_examples=300)
CODES = {"not_json", "not_utf8", "too_deep", "bad_text", "number_out_of_range"}

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)
# Close to JSON, so that the parser gets past the first character of most examples.
fragments = st.lists(
    st.sampled_from(
        [b"{", b"}", b"[", b"]", b",", b":", b'"', b'"a"', b"\\u0000", b"\\ud800", b"1", b"-", b".5", b"e999",
         b"9" * 25, b"NaN", b"true", b"null", b" ", b"\xff", b"\xc3", b"\x00", b'{"a":1,"a":2}']
    ),
    max_size=30,
).map(b"".join)  # fmt: skip


def outcome(body: bytes) -> tuple[str, Any]:
    """Return the code and message of a refusal, or an empty code and the value. Any other exception is a bug."""
    try:
        return "", parse_json(body)
    except BadRequest as refused:
        return refused.code, refused.message


def depth(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


@bounded
@given(values)
def test_valid_json_is_parsed(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        assert parse_json(text.encode()) == value


@bounded
@given(fragments | st.binary(max_size=60))
def test_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    code, value = outcome(body)
    assert code in {"", *CODES}
    if code:
        assert len(value) < 400
        return
    # PostgreSQL's jsonb and every other JSON parser accept what this parser accepts.
    serialized = json.dumps(value, ensure_ascii=False, allow_nan=False)
    assert "\\u0000" not in serialized
    assert json.loads(serialized.encode()) == value


@bounded
@given(st.integers(MAX_DEPTH - 1, MAX_DEPTH + 1) | st.integers(1, 3 * MAX_DEPTH), st.data())
def test_depth_counts_lists_and_objects(levels: int, data: st.DataObject) -> None:
    value: Any = 1
    for is_list in data.draw(st.lists(st.booleans(), min_size=levels, max_size=levels)):
        value = [value] if is_list else {"a": value}
    body = json.dumps(value).encode()
    if levels <= MAX_DEPTH:
        assert depth(parse_json(body)) == levels
    else:
        assert outcome(body)[0] == "too_deep"


@bounded
@given(st.integers(), st.booleans())
def test_integers_are_limited_to_64_bits(number: int, is_key_deep: bool) -> None:
    for value in (number, number * 2**60):
        body = json.dumps({"a": [value]} if is_key_deep else value).encode()
        fits = -(2**63) <= value < 2**63
        assert outcome(body)[0] == ("" if fits else "number_out_of_range")


@bounded
@given(texts, texts)
def test_nul_and_surrogates_are_refused_anywhere(before: str, after: str) -> None:
    for refused_character in ("\x00", "\ud800", "\udfff"):
        text = before + refused_character + after
        shapes: list[Any] = [text, {text: 1}, [{"a": text}], {"a": {text: []}}]
        for value in shapes:
            assert outcome(json.dumps(value).encode())[0] == "bad_text"


@bounded
@given(st.floats())
def test_infinite_numbers_are_refused(number: float) -> None:
    body = repr(number).encode()
    assert outcome(body) == ("", number) if math.isfinite(number) else outcome(body)[0] == "not_json"


@bounded
@given(st.text(max_size=80), st.integers(1, 10), st.booleans())
def test_the_client_address_is_always_an_ip_address(forwarded: str, hops: int, is_trusted: bool) -> None:
    """It is stored in an `inet` column and used by the admin's lockout, so clients must not choose its text."""
    request = RequestFactory().get("/", REMOTE_ADDR="192.0.2.1", HTTP_X_FORWARDED_FOR=forwarded)
    with override_settings(TRUSTED_PROXY=is_trusted, TRUSTED_PROXY_HOPS=hops):
        assert str(ip_address(client_address(request)))
        assert is_trusted or client_address(request) == "192.0.2.1"
        assert not is_from_this_machine(request)


@pytest.mark.parametrize(
    ("hops", "forwarded", "address"),
    [
        (1, "203.0.113.9, 198.51.100.7", "198.51.100.7"),
        (2, "203.0.113.9, 198.51.100.7", "203.0.113.9"),
        (2, "198.51.100.7", "198.51.100.7"),
        (1, "2001:db8::1", "2001:db8::1"),
        (1, "198.51.100.7, unknown", "192.0.2.1"),
        (1, "", "192.0.2.1"),
    ],
)
def test_only_trusted_proxies_set_the_client_address(
    hops: int, forwarded: str, address: str, settings: Settings
) -> None:
    settings.TRUSTED_PROXY, settings.TRUSTED_PROXY_HOPS = True, hops
    request = RequestFactory().get("/", REMOTE_ADDR="192.0.2.1", HTTP_X_FORWARDED_FOR=forwarded)
    assert client_address(request) == address


@bounded
@given(st.text(max_size=80) | st.from_regex(r"[A-Za-z0-9._-]{60,70}\n?"), st.booleans())
def test_a_request_id_has_only_safe_characters(given_id: str, is_trusted: bool) -> None:
    """It is written to log lines and to a header; a line break would forge both."""
    with override_settings(TRUSTED_PROXY=is_trusted):
        result_id = request_id.of(RequestFactory().get("/", HTTP_X_REQUEST_ID=given_id))
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", result_id)
    assert is_trusted or result_id != given_id


def test_the_request_id_of_a_trusted_proxy_is_kept() -> None:
    with override_settings(TRUSTED_PROXY=True):
        assert request_id.of(RequestFactory().get("/", HTTP_X_REQUEST_ID="a-word.1")) == "a-word.1"
