"""The operators' endpoint for events."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from foundation.api.pagination import Pages
from foundation.api.query_parameters import ListView
from foundation.events.models import Event
from foundation.events.serializers import EventFilter, EventResponse

COLUMNS = {"device": "device_id", "deployment": "deployment_id", "kind": "kind"}


class LastFirst(Pages):
    ordering = "-id"


class Events(ListView[Event]):
    serializer_class = EventResponse
    pagination_class = LastFirst
    filter_class = EventFilter

    def get_queryset(self) -> QuerySet[Event]:
        return Event.objects.filter(**{COLUMNS[name]: value for name, value in self.filters().items()})

    @extend_schema(parameters=[EventFilter])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """List events, newest first: what happened to which device, bundle or deployment, and who did it."""
        return self.list(request, *args, **kwargs)
