"""Holds in the admin: operators see and release them."""

from django.contrib import admin
from django.http import HttpRequest

from deployments.models import Hold
from foundation.adminsite.base import Action, ReadOnlyAdmin

RELEASE = Action(
    "release",
    description="Release: let deployments continue",
    button="Release",
    title="Release deployments",
    consequence="Waiting devices are offered their bundles. Look at the running deployments first: they may install"
    " older versions than the devices have now.",
    done="Released",
    act=lambda hold, actor: hold.released_at or Hold.release(actor=actor),
    permission="release",
    is_final=True,
    applies_to=lambda hold: hold.released_at is None,
)


@admin.register(Hold)
class HoldAdmin(ReadOnlyAdmin):
    list_display = ("reason", "since", "released_at")
    fields = readonly_fields = list_display
    actions = (RELEASE,)
    empty_text = "Deployments have never been held."

    def has_release_permission(self, request: HttpRequest) -> bool:
        return self.has_right(request, "deployments.change_deployment")
