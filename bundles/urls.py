"""The addresses of the bundles room, below /api/v1/."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
