"""The routes of events, under /api/v1/."""

from django.urls import path

from foundation.events.views import Events

urlpatterns = [path("events", Events.as_view(), name="events")]
