"""The outermost middleware: request ids, refusal of malformed requests, and JSON errors."""

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

# Load balancers and scrapers request these with an IP address as host, not a name.
ANY_HOST = frozenset({"/health", "/health/live", "/metrics"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LENGTH = re.compile(r"[0-9]{1,18}")

# The API's errors in place of the HTML with which Django or a middleware responds.
_ERRORS_BY_STATUS: dict[int, Callable[[], ApiError]] = {
    400: lambda: BadRequest("bad_request", "The request is not valid."),
    403: lambda: Forbidden("forbidden", "This is not allowed."),
    404: nothing_here,
    405: lambda: MethodNotAllowed("method_not_allowed", "This URL does not accept this method."),
    500: internal_error,
}


class ApiErrors:
    """Gives requests ids, refuses malformed ones, and rewrites HTML errors under /api/ to JSON."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        identifier = request_id.of(request)
        with request_id.during(identifier):
            try:
                refuse_malformed(request)
                response = self.get_response(request)
            except ApiError as error:
                response = refuse(request, error)
            response = as_api_error(request, response)
        response[request_id.HEADER] = identifier
        # The errors that need a log line have one with the id. Django would add another one without it.
        response._has_been_logged = True  # type: ignore[attr-defined]
        return response


def as_api_error(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Return the response, or a JSON error in place of an HTML error under /api/."""
    if response.status_code < 400 or not request.path_info.startswith("/api/"):
        return response
    if response.get("Content-Type", "").startswith("application/json"):
        return response
    make = _ERRORS_BY_STATUS.get(response.status_code)
    error = make() if make else ApiError("refused", response.reason_phrase)
    error.status = response.status_code
    rewritten = refuse(request, error)
    for name in ("Allow", "Retry-After"):
        if response.has_header(name):
            rewritten[name] = response[name]
    return rewritten


def refuse_malformed(request: HttpRequest) -> None:
    """Raise `ApiError` for requests that neither Django nor the database should process."""
    if _CONTROL.search(request.path_info):
        raise nothing_here()
    charset = (request.content_params or {}).get("charset")
    if charset is not None and not _is_utf8(charset):
        raise UnsupportedMedia("unsupported_media_type", "Send UTF-8.")
    if request.path_info in ANY_HOST:
        request.META["HTTP_HOST"] = _own_host()
    # Django would log an error with a traceback for each such request.
    try:
        request.get_host()
    except DisallowedHost:
        raise BadRequest("bad_host", "The Host header does not name this server.") from None
    if "HTTP_TRANSFER_ENCODING" in request.META:
        raise chunked()
    length = request.META.get("CONTENT_LENGTH")
    if length and not _LENGTH.fullmatch(length):
        raise BadRequest("bad_length", "`Content-Length` must be a number of bytes.")
    if request.path_info.startswith("/api/") and "%00" in request.META.get("QUERY_STRING", ""):
        raise BadRequest("bad_query", "The query contains NUL.")


def _is_utf8(charset: str) -> bool:
    try:
        return codecs.lookup(charset).name == "utf-8"
    except (LookupError, ValueError):
        return False


def _own_host() -> str:
    """Return a name that Django accepts."""
    first: str = settings.ALLOWED_HOSTS[0] if settings.ALLOWED_HOSTS else "localhost"
    return "localhost" if first == "*" else first.lstrip(".")
