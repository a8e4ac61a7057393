"""The URLs of the control plane, and a view that does nothing."""

from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt


@csrf_exempt
def bare(request: HttpRequest) -> HttpResponse:
    """Respond immediately. This measures Django, its middleware and gunicorn."""
    return HttpResponse(b"{}", content_type="application/json")


urlpatterns = [path("bare", bare), path("", include("kernex.urls"))]
