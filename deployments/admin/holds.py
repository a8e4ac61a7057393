"""Holding deployments back, as operators see and end it."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse

from deployments.holding import release
from deployments.models import Hold
from foundation.adminsite.base import ReadOnly, actor_of, is_confirmed


@admin.register(Hold)
class HoldAdmin(ReadOnly):
    list_display = ("reason", "since", "released_at")
    fields = readonly_fields = list_display
    actions = ("release",)
    empty_text = "Deployments were never held."

    def has_release_permission(self, request: HttpRequest) -> bool:
        return self.has_right(request, "deployments.change_deployment")

    def steps_for(self, obj: Hold) -> dict[str, str]:
        return {} if obj.released_at else {"release": "Release"}

    @admin.action(description="Release: let deployments go on", permissions=["release"])
    def release(self, request: HttpRequest, queryset: QuerySet[Hold]) -> HttpResponse | None:
        if not is_confirmed(request):
            return self.ask(
                request, queryset, action="release", title="Release deployments", is_final=True,
                consequence="Devices that wait are offered their bundles. Look first at the deployments that run: what"
                " they order may be older than what devices have now.",
            )  # fmt: skip
        self.attempt(request, queryset, lambda held: held.released_at or release(actor=actor_of(request)), "Released")
        return None
