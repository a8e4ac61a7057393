"""A DRF view without DRF's work per request: for the heartbeat, which is most of the traffic."""

import json
from typing import Any, NoReturn

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from rest_framework.exceptions import UnsupportedMediaType
from rest_framework.response import Response
from rest_framework.views import APIView


class SlimView(APIView):
    """An APIView that calls its one method and does nothing else.

    DRF's hooks are empty: no wrapped request, no negotiation, no policies, no rendering. The method gets Django's
    request, authenticates it, and returns Django's response.
    """

    metadata_class = None

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return request

    def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
        pass

    @property
    def default_response_headers(self) -> dict[str, str]:
        return {}

    def finalize_response(self, request: Any, response: HttpResponseBase, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(response, Response):
            return response
        plain = json_response(response.data, response.status_code)
        for name in ("Retry-After", "WWW-Authenticate"):
            if response.has_header(name):
                plain[name] = response[name]
        if response.status_code == 405:
            plain["Allow"] = ", ".join(self.allowed_methods)
        return plain

    def raise_uncaught_exception(self, exc: Exception) -> NoReturn:
        raise exc


def json_response(value: Any, status: int = 200) -> HttpResponse:
    """Return a JSON response without DRF's renderer."""
    return HttpResponse(json.dumps(value), content_type="application/json", status=status)


def require_json(request: HttpRequest) -> None:
    """Raise `UnsupportedMediaType` unless the body is declared as JSON in UTF-8."""
    if request.META.get("CONTENT_TYPE") == "application/json":
        return
    charset = (request.content_params or {}).get("charset", "utf-8")
    if request.content_type != "application/json" or charset.lower() != "utf-8":
        raise UnsupportedMediaType(request.META.get("CONTENT_TYPE", ""))
