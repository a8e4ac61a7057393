"""The word by which one request is found again: in its answer (`X-Request-Id`) and in every log line about it."""

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from django.conf import settings
from django.http import HttpRequest

HEADER = "X-Request-Id"
_WORD = re.compile(r"[A-Za-z0-9._-]{1,64}")
_current: ContextVar[str] = ContextVar("request_id", default="")


def current() -> str:
    """The id of the request that this thread works on; empty outside a request."""
    return _current.get()


def of(request: HttpRequest) -> str:
    """A new id, or the one that the trusted proxy already gave the request."""
    given = request.META.get("HTTP_X_REQUEST_ID", "") if settings.TRUSTED_PROXY else ""
    return given if _WORD.fullmatch(given) else secrets.token_hex(8)


@contextmanager
def during(request_id: str) -> Iterator[None]:
    """Log lines in this block carry the id."""
    token = _current.set(request_id)
    try:
        yield
    finally:
        _current.reset(token)
