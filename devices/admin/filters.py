"""The filters of the list of devices."""

from typing import Any

from django.contrib.admin import SimpleListFilter
from django.db.models import QuerySet
from django.http import HttpRequest

from devices.models import Device, Health
from devices.queries.suggestions import newest_tags

TAGS_SHOWN = 50


class Liveness(SimpleListFilter):
    """Online or offline, derived from the last heartbeat."""

    title = "liveness"
    parameter_name = "liveness"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("online", "online"), ("offline", "offline")]

    def queryset(self, request: HttpRequest, queryset: Any) -> QuerySet[Device]:
        if self.value() == "online":
            return queryset.online()
        if self.value() == "offline":
            return queryset.offline()
        return queryset


class HealthFilter(SimpleListFilter):
    """The health that the last heartbeat describes; unknown while the device is not online."""

    title = "health"
    parameter_name = "health"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return list(Health.choices)

    def queryset(self, request: HttpRequest, queryset: Any) -> QuerySet[Device]:
        return queryset.with_health(self.value()) if self.value() in Health.values else queryset


class Tag(SimpleListFilter):
    """One tag of the devices."""

    title = "tag"
    parameter_name = "tag"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(tag, tag) for tag in sorted(newest_tags())[:TAGS_SHOWN]]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Device]) -> QuerySet[Device]:
        return queryset.filter(tags__contains=[self.value()]) if self.value() else queryset
