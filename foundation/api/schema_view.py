"""GET /api/v1/schema: the OpenAPI document, made once a process."""

from functools import cache

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer


@require_safe
def schema(request: HttpRequest) -> HttpResponse:
    """For everybody: it tells no more than docs/device-api.md."""
    return HttpResponse(document(), content_type="application/vnd.oai.openapi+json")


@cache
def document() -> bytes:
    """Making it takes the better part of a second of processor time, which nobody shall spend for us at will."""
    made = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    rendered: bytes = OpenApiJsonRenderer().render(made, renderer_context={})
    return rendered
