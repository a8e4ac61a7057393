"""Limits of request bodies outside the API, enforced before Django parses a form.

Django's CSRF check reads an entire multipart body and writes its files to disk, before any permission is checked. So a
client that is not signed in may only send what a sign-in form needs. Views without a CSRF check, such as those of the
API, read their bodies themselves and have their own limits.
"""

from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from foundation.api.exceptions import refuse
from foundation.errors import TooLarge


class BodyLimits:
    """Middleware, placed before the one that checks CSRF tokens."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Callable[..., HttpResponse], args: object, kwargs: object
    ) -> HttpResponse | None:
        if getattr(view, "csrf_exempt", False):
            return None
        size = int(request.META.get("CONTENT_LENGTH") or 0)
        # Small bodies are accepted without reading the session.
        if size <= settings.MAX_BODY_SIZE:
            return None
        limit = settings.FORM_UPLOAD_MAX_SIZE if may_upload(request) else settings.MAX_BODY_SIZE
        if size <= limit:
            return None
        return refuse(request, TooLarge("too_large", f"The body is larger than {limit} bytes."))


def may_upload(request: HttpRequest) -> bool:
    """Return whether the request comes from a person who is signed in to the admin."""
    return bool(request.user.is_authenticated and request.user.is_staff)
