"""The URLs of the control plane."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularSwaggerSplitView

from foundation.api.schema_view import schema
from kernex.pages import Status, health, live
from operations.monitoring.metrics import metrics

api: list[URLPattern | URLResolver] = [
    path("", include("devices.urls")),
    path("", include("bundles.urls")),
    path("", include("deployments.urls")),
    path("", include("foundation.events.urls")),
    path("status", Status.as_view(), name="status"),
    path("schema", schema, name="schema"),
    path("docs", SpectacularSwaggerSplitView.as_view(url_name="schema"), name="docs"),
]

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index"), name="home"),
    path("health", health, name="health"),
    path("health/live", live, name="health-live"),
    path("metrics", metrics, name="metrics"),
    path("admin/", admin.site.urls),
    path("api/v1/", include(api)),
]

handler404 = "foundation.api.exceptions.not_found"
handler500 = "foundation.api.exceptions.server_error"
