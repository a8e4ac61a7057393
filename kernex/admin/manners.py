"""What all pages of the admin share: read-only history, actions that ask first, errors as messages."""

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.admin import ModelAdmin

from kernex.errors import ApiError

SHOWN_OBJECTS = 20


def actor_of(request: HttpRequest) -> str:
    """How events name whoever sent a request of the admin."""
    return f"operator:{request.user.get_username()}"


class Page(ModelAdmin):
    """Unfold's look; nothing is deleted from lists, and lists stay cheap however long they are."""

    list_per_page = 50
    show_full_result_count = False
    compressed_fields = True
    warn_unsaved_form = True

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def may_change(self, request: HttpRequest) -> bool:
        """Whether this person may take the page's actions."""
        return self.has_change_permission(request)

    def attempt(self, request: HttpRequest, objects: QuerySet[Any], act: Callable[[Any], object], done: str) -> None:
        """Do something to each object; say how many it was done to, and why it was not done to the others."""
        count = 0
        for one in objects:
            try:
                act(one)
            except ApiError as error:
                self.message_user(request, error.message, messages.ERROR)
            else:
                count += 1
        if count:
            self.message_user(request, f"{done}: {count}.", messages.SUCCESS)

    def ask(
        self,
        request: HttpRequest,
        objects: QuerySet[Any],
        *,
        action: str,
        title: str,
        consequence: str,
        form: Any = None,
    ) -> HttpResponse:
        """The page that says what is about to happen, to how many and to which, and asks."""
        context = {
            **self.admin_site.each_context(request),
            "title": title,
            "consequence": consequence,
            "count": objects.count(),
            "objects": objects[:SHOWN_OBJECTS],
            "selected": request.POST.getlist(ACTION_CHECKBOX_NAME),
            "select_across": request.POST.get("select_across", "0"),
            "checkbox_name": ACTION_CHECKBOX_NAME,
            "action": action,
            "form": form,
            "opts": self.model._meta,
        }
        return TemplateResponse(request, "kernex/confirm.html", context)


class ReadOnly(Page):
    """What was reported or has happened: shown, never written."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


def is_confirmed(request: HttpRequest) -> bool:
    """Whether the person said yes on the page of `Page.ask`."""
    return request.POST.get("confirmed") == "yes"
