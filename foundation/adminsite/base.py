"""Base classes of the admin: read-only pages, actions that ask for confirmation, errors as messages."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import SuspiciousOperation, ValidationError
from django.db.models import Field, Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.text import capfirst
from unfold.admin import ModelAdmin

from foundation.errors import ApiError

SHOWN_OBJECTS = 20


def actor_of(request: HttpRequest) -> str:
    """Return the actor that events record for the person who sent a request."""
    return f"operator:{request.user.get_username()}"


def is_confirmed(request: HttpRequest) -> bool:
    """Return whether the person confirmed on the page of `OperatorAdmin.ask`."""
    return request.POST.get("confirmed") == "yes"


@dataclass(frozen=True)
class Action:
    """An action that describes its effect, asks for confirmation, and then applies to each chosen object.

    Add it to the `actions` of an `OperatorAdmin`, which offers it in the list and as a button on the object's page.
    `act` gets the object and the actor's name. If it raises an `ApiError`, the message is shown with the object.
    """

    name: str
    description: str  # in the list of actions
    button: str  # on the object's page
    title: str  # of the confirmation page and its button
    consequence: str  # shown on the confirmation page
    done: str  # shown afterwards with a count: "Published: 3."
    act: Callable[[Any, str], object]
    permission: str = "change"
    is_final: bool = False
    applies_to: Callable[[Any], bool] = lambda obj: True

    @property
    def __name__(self) -> str:
        return self.name

    @property
    def short_description(self) -> str:
        return self.description

    @property
    def allowed_permissions(self) -> list[str]:
        return [self.permission]

    def __call__(self, page: "OperatorAdmin", request: HttpRequest, objects: QuerySet[Any]) -> HttpResponse | None:
        if not is_confirmed(request):
            return page.ask(
                request, objects,
                action=self.name, title=self.title, consequence=self.consequence, is_final=self.is_final,
            )  # fmt: skip
        page.attempt(request, objects, lambda obj: self.act(obj, actor_of(request)), self.done)
        return None


def is_key(field: "Field[Any, Any]", text: str) -> bool:
    """Return whether this text can be a value of a primary key."""
    try:
        field.to_python(text)
    except ValidationError:
        return False
    return True


def refuse_nul(request: HttpRequest) -> None:
    """Raise `SuspiciousOperation` if a filter contains NUL, which the database does not accept."""
    if any("\0" in text for name, values in request.GET.lists() for text in (name, *values)):
        raise SuspiciousOperation("NUL in the query of a list")


class BaseAdmin(ModelAdmin):
    """The base of all admin classes: forged requests get 400, and lists accept only the filters that they offer."""

    # The permissions on this model that its pages check. Superusers can grant these to others.
    offered_permissions: tuple[str, ...] = ()

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """Refuse requests that no page of the admin sends and that the database would not accept."""
        refuse_nul(request)
        if not all(is_key(self.opts.pk, text) for text in request.POST.getlist(ACTION_CHECKBOX_NAME)):
            raise SuspiciousOperation("a selected key is not valid")
        title = capfirst(self.opts.verbose_name_plural)
        return super().changelist_view(request, {"title": title, **(extra_context or {})})

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Allow filters that `list_filter` offers, and no others: filtering by a digest's prefix would reveal it."""
        filters = self.get_list_filter(request) if request else self.list_filter
        offered = {item[0] if isinstance(item, tuple) else item for item in filters}
        named = {name for item in offered for name in (item, getattr(item, "parameter_name", None))}
        field = lookup.split("__")[0]
        return field in named and super().lookup_allowed(lookup, value, request)

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Write nothing to Django's log: events record changes instead."""

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Write nothing, as in `log_addition`."""

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        """Write nothing, as in `log_addition`."""


class OperatorAdmin(BaseAdmin):
    """The base for operators' pages: no deletion, confirmed actions, and cheap long lists."""

    list_per_page = 50
    show_full_result_count = False
    compressed_fields = True
    warn_unsaved_form = True
    change_form_outer_before_template = "adminsite/above_form.html"
    # The text above the form that adds an object, and the text of its button.
    add_lead = ""
    add_button = "Save"
    # The text of an empty list.
    empty_text = "Nothing here yet."

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_right(self, request: HttpRequest, right: str) -> bool:
        """Return whether this person has a permission such as `deployments.add_deployment`."""
        return request.user.has_perm(right)

    def buttons_for(self, obj: Any) -> dict[str, str]:
        """Return the actions that apply to this object now: names and button labels."""
        declared = [action for action in self.actions or () if isinstance(action, Action)]
        return {action.name: action.button for action in declared if action.applies_to(obj)}

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Take no initial values from the URL, because a link could set any value."""
        return {}

    def changeform_view(self, request: HttpRequest, object_id: str | None = None, *args: Any, **more: Any) -> Any:
        """Show an `ApiError` as a message. The view's transaction was rolled back."""
        try:
            return super().changeform_view(request, object_id, *args, **more)
        except ApiError as error:
            self.message_user(request, error.message, messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **more: Any) -> Any:
        obj = context.get("original")
        allowed = self.get_actions(request) if obj else {}
        context |= {
            "lead": "" if obj else self.add_lead,
            "save_label": "Save" if obj else self.add_button,
            "show_save_and_add_another": False,
            "show_save_and_continue": False,
            "buttons": [(name, label) for name, label in self.buttons_for(obj).items() if name in allowed]
            if obj
            else [],
            "checkbox_name": ACTION_CHECKBOX_NAME,
        }
        return super().render_change_form(request, context, *args, **more)

    def response_action(self, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
        """Return to an object's page after an action that was started there."""
        answer = super().response_action(request, queryset)
        if isinstance(answer, HttpResponseRedirect) and answer.url == request.get_full_path():
            return HttpResponseRedirect(self.return_url(request))
        return answer

    def return_url(self, request: HttpRequest) -> str:
        """Return the URL where an action was started: an object's page if the object exists, otherwise the list."""
        selected = request.POST.getlist(ACTION_CHECKBOX_NAME)
        is_object_page = request.POST.get("begun_on") == "object" and len(selected) == 1
        if is_object_page and self.get_object(request, selected[0]) is not None:
            return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", args=selected)
        return request.get_full_path()

    def attempt(self, request: HttpRequest, objects: QuerySet[Any], act: Callable[[Any], object], done: str) -> None:
        """Call `act` for each object. Show how many succeeded, and why the others were refused."""
        count = 0
        refused: dict[str, list[str]] = {}
        for obj in objects:
            try:
                act(obj)
            except ApiError as error:
                refused.setdefault(error.message, []).append(str(obj))
            else:
                count += 1
        for message, names in refused.items():
            self.message_user(request, f"{shorten(names)}: {message}", messages.ERROR)
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
        is_final: bool = False,
    ) -> HttpResponse:
        """Return the confirmation page, which shows the effect and the objects."""
        context = {
            **self.admin_site.each_context(request),
            "title": title,
            "consequence": consequence,
            "count": objects.count(),
            "objects": objects[:SHOWN_OBJECTS],
            "selected": request.POST.getlist(ACTION_CHECKBOX_NAME),
            "select_across": request.POST.get("select_across", "0"),
            "begun_on": request.POST.get("begun_on", "list"),
            "return_url": self.return_url(request),
            "checkbox_name": ACTION_CHECKBOX_NAME,
            "action": action,
            "form": form,
            "is_final": is_final,
            "opts": self.opts,
        }
        return TemplateResponse(request, "adminsite/confirm.html", context)


class TokenAdmin(OperatorAdmin):
    """The base for tokens: a new token's secret is shown once."""

    def show_secret(self, request: HttpRequest, obj: Model, secret: str, server: str = "") -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": f"{capfirst(self.opts.verbose_name)} {obj}",
            "secret": secret,
            "server": server,
            "opts": self.opts,
            "list_url": reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"),
        }
        answer = TemplateResponse(request, "adminsite/secret.html", context)
        answer["Cache-Control"] = "no-store"
        return answer


class ReadOnlyAdmin(OperatorAdmin):
    """The base for reports and history, which people may view but not edit."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


def shorten(names: list[str], maximum: int = 3) -> str:
    """Return the first few names, and the number of the others."""
    more = f" and {len(names) - maximum} more" if len(names) > maximum else ""
    return ", ".join(names[:maximum]) + more
