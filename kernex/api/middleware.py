"""Errors made before or outside DRF get the API's shape under /api/."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from kernex.api.exceptions import json_error

MESSAGES = {
    400: ("bad_request", "The request cannot be understood."),
    403: ("forbidden", "This is not allowed."),
    404: ("not_found", "There is nothing at this address."),
    405: ("method_not_allowed", "This address does not take this method."),
    413: ("too_large", "The body is too large."),
    500: ("internal_error", "Something broke on our side; it was logged."),
}


class ApiErrors:
    """Outermost: rewrites an HTML error answer under /api/ into JSON, keeping its status and headers' meaning."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        if response.status_code < 400 or not request.path_info.startswith("/api/"):
            return response
        if response.get("Content-Type", "").startswith("application/json"):
            return response
        code, message = MESSAGES.get(response.status_code, ("error", "The request failed."))
        rewritten = json_error(response.status_code, code, message)
        if response.has_header("Allow"):
            rewritten["Allow"] = response["Allow"]
        return rewritten
