"""The outermost layer: each request gets an id, what no view should see is refused, every error has one shape."""

import codecs
import re
from collections.abc import Callable

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse

from foundation.api import request_id
from foundation.api.exceptions import internal_error, nothing_here, refuse
from foundation.api.parsers import chunked
from foundation.errors import ApiError, BadRequest, Forbidden, MethodNotAllowed, UnsupportedMedia

# Asked by load balancers and scrapers, which know an address of this process rather than its name.
ANY_HOST = frozenset({"/health", "/health/live", "/metrics"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LENGTH = re.compile(r"[0-9]{1,18}")

# What Django or a middleware answered in HTML, said in the API's way.
_SHAPES: dict[int, Callable[[], ApiError]] = {
    400: lambda: BadRequest("bad_request", "The request cannot be understood."),
    403: lambda: Forbidden("forbidden", "This is not allowed."),
    404: nothing_here,
    405: lambda: MethodNotAllowed("method_not_allowed", "This address does not take this method."),
    500: internal_error,
}


class ApiErrors:
    """Gives ids, refuses early, and rewrites an HTML error under /api/ into JSON with the same status."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        word = request_id.of(request)
        with request_id.during(word):
            try:
                refuse_malformed(request)
                response = self.get_response(request)
            except ApiError as error:
                response = refuse(request, error)
            response = shaped(request, response)
        response[request_id.HEADER] = word
        # Whatever deserves a line has one, with the id; Django would write another without it.
        response._has_been_logged = True  # type: ignore[attr-defined]
        return response


def shaped(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """The response, or the API's error in place of one that is not JSON."""
    if response.status_code < 400 or not request.path_info.startswith("/api/"):
        return response
    if response.get("Content-Type", "").startswith("application/json"):
        return response
    make = _SHAPES.get(response.status_code)
    error = make() if make else ApiError("refused", response.reason_phrase)
    error.status = response.status_code
    rewritten = refuse(request, error)
    for name in ("Allow", "Retry-After"):
        if response.has_header(name):
            rewritten[name] = response[name]
    return rewritten


def refuse_malformed(request: HttpRequest) -> None:
    """Raise for what neither Django nor the database should get to see."""
    if _CONTROL.search(request.path_info):
        raise nothing_here()
    charset = (request.content_params or {}).get("charset")
    if charset is not None and not _is_utf8(charset):
        raise UnsupportedMedia("unsupported_media_type", "Send UTF-8.")
    if request.path_info in ANY_HOST:
        request.META["HTTP_HOST"] = _own_host()
    # Django would write an error with a traceback for each stranger who tries.
    try:
        request.get_host()
    except DisallowedHost:
        raise BadRequest("bad_host", "This server does not go by the name in the Host header.") from None
    if "HTTP_TRANSFER_ENCODING" in request.META:
        raise chunked()
    length = request.META.get("CONTENT_LENGTH")
    if length and not _LENGTH.fullmatch(length):
        raise BadRequest("bad_length", "Content-Length is not a whole number of bytes.")
    if request.path_info.startswith("/api/") and "%00" in request.META.get("QUERY_STRING", ""):
        raise BadRequest("bad_query", "The query contains NUL.")


def _is_utf8(charset: str) -> bool:
    try:
        return codecs.lookup(charset).name == "utf-8"
    except (LookupError, ValueError):
        return False


def _own_host() -> str:
    """A name that Django will take."""
    first: str = settings.ALLOWED_HOSTS[0] if settings.ALLOWED_HOSTS else "localhost"
    return "localhost" if first == "*" else first.lstrip(".")
