"""The id of a request, in its response (`X-Request-Id`) and in each of its log lines."""

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
    """Return the id of the request that this thread handles; empty outside a request."""
    return _current.get()


def of(request: HttpRequest) -> str:
    """Return a new id, or the one that a trusted proxy gave the request."""
    given = request.META.get("HTTP_X_REQUEST_ID", "") if settings.TRUSTED_PROXY else ""
    return given if _WORD.fullmatch(given) else secrets.token_hex(8)


@contextmanager
def during(request_id: str) -> Iterator[None]:
    """Add the id to the log lines of this block."""
    token = _current.set(request_id)
    try:
        yield
    finally:
        _current.reset(token)
