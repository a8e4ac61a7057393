"""Errors as responses: every error of the API is `{"error": {"code": …, "message": …}}`."""

import logging
import math
import sys
from typing import Any

import psycopg.errors
from django.core.exceptions import BadRequest as DjangoBadRequest
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import DataError, InterfaceError, OperationalError, ProgrammingError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, UnreadablePostError
from django.views.defaults import page_not_found
from rest_framework import exceptions
from rest_framework.response import Response

from foundation.api.request_id import current
from foundation.errors import (
    ApiError,
    BadRequest,
    Forbidden,
    NotFound,
    NotSigned,
    TooLarge,
    TooManyRequests,
    Unavailable,
)

logger = logging.getLogger(__name__)

# PostgreSQL gave up on one statement; a retry may succeed.
BUSY = (psycopg.errors.LockNotAvailable, psycopg.errors.QueryCanceled, psycopg.errors.TransactionRollback)
# The role lacks a privilege, or a migration has not run yet.
UNPREPARED = (psycopg.errors.InsufficientPrivilege, psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn)


def error_body(code: str, message: str, extra: dict[str, object] | None = None) -> dict[str, object]:
    """Return the JSON of a refusal, with `extra` next to `code` and `message`."""
    return {"error": {"code": code, "message": message, **(extra or {})}}


def nothing_here() -> NotFound:
    """Return the refusal of a URL that does not exist."""
    return NotFound("not_found", "There is nothing at this URL.")


def translate(error: BaseException | None) -> ApiError | None:
    """Return the API error for an exception of Django or the database; None if it is a bug in Kernex."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, OperationalError | InterfaceError | ProgrammingError):
        return _database_error(error)
    if isinstance(error, DataError):
        return BadRequest("bad_value", "A value in the request cannot be stored.")
    if isinstance(error, Http404):
        return nothing_here()
    if isinstance(error, PermissionDenied):
        return Forbidden("forbidden", "This is not allowed.")
    if isinstance(error, UnreadablePostError):
        return BadRequest("body_cut", "The connection was closed before the body was complete.")
    if isinstance(error, RequestDataTooBig):
        return TooLarge("too_large", "The body is too large.")
    if isinstance(error, SuspiciousOperation | DjangoBadRequest):
        return BadRequest("bad_request", "The request is not valid.")
    return None


def _database_error(error: OperationalError | InterfaceError | ProgrammingError) -> Unavailable | None:
    cause = error.__cause__
    if isinstance(error, ProgrammingError) and not isinstance(cause, UNPREPARED):
        return None
    logger.warning("the database refused: %s", str(error).strip().partition("\n")[0])
    if isinstance(cause, UNPREPARED):
        return Unavailable("database_not_ready", "The database is not ready; /health explains how to fix it.", 30)
    if isinstance(cause, BUSY):
        return Unavailable("database_busy", "The database is busy; try again.", 1)
    return Unavailable("database_unavailable", "The database cannot be reached; try again.")


def headers_of(error: ApiError) -> dict[str, str]:
    """Return the headers of a refusal."""
    if isinstance(error, Unavailable | TooManyRequests):
        return {"Retry-After": str(error.retry_after_seconds)}
    if isinstance(error, NotSigned):
        return {"WWW-Authenticate": "Signature"}
    return {}


def answer(error: Exception, context: dict[str, Any]) -> Response | None:
    """Return the response to an exception for DRF. With None it becomes a 500: a bug in Kernex."""
    if isinstance(error, exceptions.APIException):
        return _drf_answer(error)
    refusal = translate(error)
    if refusal is None:
        return None
    body = error_body(refusal.code, refusal.message, dict(refusal.extra))
    return Response(body, status=refusal.status, headers=headers_of(refusal))


def _drf_answer(error: exceptions.APIException) -> Response:
    if isinstance(error, exceptions.ValidationError):
        body = error_body("invalid", "Some fields are invalid.", {"fields": error.detail})
        return Response(body, status=400)
    code = error.get_codes()
    message = str(error.detail)
    wait = getattr(error, "wait", None)
    if wait is not None:
        message = f"Too many requests. Try again in {math.ceil(wait)} s."
    response = Response(
        error_body(code if isinstance(code, str) else error.default_code, message), status=error.status_code
    )
    if wait is not None:
        response["Retry-After"] = str(math.ceil(wait))
    challenge = getattr(error, "auth_header", None)
    if challenge:
        response["WWW-Authenticate"] = challenge
    return response


def refuse(request: HttpRequest, error: ApiError) -> HttpResponse:
    """Return the response to a refusal outside DRF: the same JSON under /api/, plain text elsewhere."""
    if request.path_info.startswith("/api/"):
        return JsonResponse(
            error_body(error.code, error.message, dict(error.extra)), status=error.status, headers=headers_of(error)
        )
    return HttpResponse(
        f"{error.message}\n", status=error.status, content_type="text/plain; charset=utf-8", headers=headers_of(error)
    )


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler404. Under /api/ it renders no page, because programs may request thousands of missing URLs."""
    if request.path_info.startswith("/api/"):
        return refuse(request, nothing_here())
    return page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler500, for exceptions that no view or middleware handled.

    It logs bugs itself: Django does not log errors of its handlers, and does not distinguish outages from bugs.
    """
    refusal = translate(sys.exc_info()[1])
    if isinstance(refusal, Unavailable):
        response = refuse(request, refusal)
    else:
        logger.error("%s %s failed", request.method, request.path, exc_info=True)
        response = refuse(request, internal_error())
    response._has_been_logged = True  # type: ignore[attr-defined]
    return response


def internal_error() -> ApiError:
    """Return the error for a bug, with the request id by which its log lines are found."""
    error = ApiError("internal_error", "The server failed because of a bug, which was logged.", request_id=current())
    error.status = 500
    return error
