"""Every refusal of the API in one shape: `{"error": {"code": …, "message": …}}`."""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import DataError, InterfaceError, OperationalError
from django.http import Http404, JsonResponse
from rest_framework import exceptions
from rest_framework.response import Response

from kernex.errors import ApiError, NotSigned, Unavailable


def error_body(code: str, message: str, extra: dict[str, object] | None = None) -> dict[str, object]:
    return {"error": {"code": code, "message": message, **(extra or {})}}


def answer(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler. None lets an unknown error become a 500, which is then a defect of ours."""
    if isinstance(error, OperationalError | InterfaceError):
        error = Unavailable("database_unavailable", "The database cannot be reached right now; try again.")
    if isinstance(error, DataError):
        return Response(error_body("bad_value", "A value in the request cannot be stored."), status=400)
    if isinstance(error, ApiError):
        response = Response(error_body(error.code, error.message, dict(error.extra)), status=error.status)
        if isinstance(error, Unavailable):
            response["Retry-After"] = str(error.retry_after_seconds)
        if isinstance(error, NotSigned):
            response["WWW-Authenticate"] = "Signature"
        return response
    if isinstance(error, Http404):
        return Response(error_body("not_found", "There is nothing at this address."), status=404)
    if isinstance(error, PermissionDenied):
        return Response(error_body("forbidden", "This is not allowed."), status=403)
    if isinstance(error, exceptions.ValidationError):
        return Response(
            error_body("invalid", "Some fields are not as they should be.", {"fields": error.detail}), status=400
        )
    if isinstance(error, exceptions.APIException):
        code = error.get_codes()
        response = Response(
            error_body(code if isinstance(code, str) else error.default_code, str(error.detail)),
            status=error.status_code,
        )
        wait = getattr(error, "wait", None)
        if wait is not None:
            response["Retry-After"] = str(int(wait))
        header = getattr(error, "auth_header", None)
        if header:
            response["WWW-Authenticate"] = header
        return response
    return None


def json_error(status: int, code: str, message: str) -> JsonResponse:
    """The same shape outside DRF."""
    return JsonResponse(error_body(code, message), status=status)
