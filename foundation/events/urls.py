"""The routes of events, below /api/v1/."""

from django.urls import path

from foundation.events.views import Events

urlpatterns = [path("events", Events.as_view(), name="events")]
