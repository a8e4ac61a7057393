"""Request bodies: strict JSON of bounded size and depth."""

import json
import math
from collections.abc import Mapping
from typing import IO, Any, NoReturn

from django.conf import settings
from rest_framework.parsers import BaseParser

from foundation.errors import BadRequest, LengthRequired, TooLarge

MAX_DEPTH = 32
LEAST_NUMBER, MOST_NUMBER = -(2**63), 2**63 - 1


def parse_json(body: bytes) -> Any:
    """Return the value of a JSON text.

    Raises `BadRequest` for everything that PostgreSQL or another JSON parser would not accept: bytes that are not
    UTF-8, NUL, lone surrogates, numbers beyond 64 bits or not finite, duplicate keys, and nesting deeper than 32.
    """
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except UnicodeDecodeError:
        raise BadRequest("not_utf8", "The body is not valid UTF-8.") from None
    except RecursionError:
        raise BadRequest("too_deep", f"The body is nested deeper than {MAX_DEPTH} levels.") from None
    except json.JSONDecodeError as error:
        raise BadRequest("not_json", f"The body is not valid JSON: {str(error)[:200]}.") from None
    except ValueError:
        # Python refuses to convert thousands of digits.
        raise _beyond_64_bits() from None
    _check(value, 1)
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise BadRequest("not_json", f"The body is not valid JSON: {name} is not a JSON number.")


def _beyond_64_bits() -> BadRequest:
    return BadRequest("number_out_of_range", "An integer in the body does not fit into 64 bits.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise BadRequest("not_json", "The body is not valid JSON: an object has a duplicate key.")
    return members


def _check(value: Any, depth: int) -> None:
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise BadRequest("number_out_of_range", "A number in the body is beyond the range of a double.")
    elif isinstance(value, int):
        if not LEAST_NUMBER <= value <= MOST_NUMBER:
            raise _beyond_64_bits()
    elif isinstance(value, dict | list):
        if depth > MAX_DEPTH:
            raise BadRequest("too_deep", f"The body is nested deeper than {MAX_DEPTH} levels.")
        if isinstance(value, dict):
            for key, member in value.items():
                _check_text(key)
                _check(member, depth + 1)
        else:
            for member in value:
                _check(member, depth + 1)


def _check_text(text: str) -> None:
    if "\x00" in text:
        raise BadRequest("bad_text", "A string in the body contains NUL.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise BadRequest("bad_text", "A string in the body contains a lone surrogate.") from None


class StrictJson(BaseParser):
    """DRF's parser for `parse_json`. Refuses chunked bodies and those larger than `MAX_BODY_SIZE`."""

    media_type = "application/json"

    def parse(
        self, stream: IO[bytes], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        request = (parser_context or {})["request"]
        return parse_json(read_body(request._request))


def chunked() -> LengthRequired:
    """Return the error for a body without a length, which WSGI would read as empty."""
    return LengthRequired("length_required", "Send the body with a Content-Length, not chunked.")


def read_body(request: Any) -> bytes:
    """Return the request's body, at most `MAX_BODY_SIZE` bytes.

    Raises: `LengthRequired`, `TooLarge`, `BadRequest` (`bad_length`, `body_cut`).
    """
    if "HTTP_TRANSFER_ENCODING" in request.META:
        raise chunked()
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not length.isascii() or not length.isdigit():
        raise BadRequest("bad_length", "`Content-Length` must be a number of bytes.")
    if len(length) > 18 or int(length) > settings.MAX_BODY_SIZE:
        raise TooLarge("too_large", f"The body is larger than {settings.MAX_BODY_SIZE} bytes.")
    body: bytes = request.body
    if len(body) < int(length):
        raise BadRequest("body_cut", "The connection was closed before the body was complete.")
    return body
