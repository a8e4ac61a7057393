"""GET /api/v1/schema: the OpenAPI document, generated once per process."""

from functools import cache

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer


@require_safe
def schema(request: HttpRequest) -> HttpResponse:
    """Respond without a token: the document contains no more than docs/device-api.md."""
    return HttpResponse(document(), content_type="application/vnd.oai.openapi+json")


@cache
def document() -> bytes:
    """Generate the document once: it takes nearly a second of processor time, and anyone may request it."""
    openapi = SchemaGenerator().get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    rendered: bytes = OpenApiJsonRenderer().render(openapi, renderer_context={})
    return rendered
