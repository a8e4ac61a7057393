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
    """Return how events name the person who sent a request."""
    return f"operator:{request.user.get_username()}"


def is_confirmed(request: HttpRequest) -> bool:
    """Whether the person confirmed on the page of `OperatorAdmin.ask`."""
    return request.POST.get("confirmed") == "yes"


@dataclass(frozen=True)
class Action:
    """An action that says what it will do, asks, and then does it to each chosen object.

    It stands in the `actions` of an `OperatorAdmin`, which offers it in the list and as a button on the object's page.
    `act` gets the object and the actor's name; an `ApiError` of it is shown beside the objects that it concerns.
    """

    name: str
    description: str  # in the list of actions
    button: str  # on the object's page
    title: str  # of the page that asks, and on its button
    consequence: str  # what will happen, for people
    done: str  # what is counted afterwards: "Published: 3."
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
    """Whether this text can be a value of a primary key."""
    try:
        field.to_python(text)
    except ValidationError:
        return False
    return True


class BaseAdmin(ModelAdmin):
    """The base of all admin classes: made-up requests are answered 400, and lists filter by what they offer."""

    # The permissions on this model that its pages ask for: what superusers can grant to others.
    offered_permissions: tuple[str, ...] = ()

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """Refuse requests that no page of the admin sends and that the database would not accept."""
        asked = [text for texts in request.GET.lists() for text in (texts[0], *texts[1])]
        if any("\0" in text for text in asked):
            raise SuspiciousOperation("NUL in the query of a list")
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
        """Write nothing to Django's own log: what happens is an event."""

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """As above."""

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        """As above."""


class OperatorAdmin(BaseAdmin):
    """The base for operators' pages: nothing is deleted, actions ask first, and long lists stay cheap."""

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
        """Whether this person has a permission such as `deployments.add_deployment`."""
        return request.user.has_perm(right)

    def buttons_for(self, obj: Any) -> dict[str, str]:
        """Return the actions that make sense for this object now, by name, with the texts of their buttons."""
        declared = [action for action in self.actions or () if isinstance(action, Action)]
        return {action.name: action.button for action in declared if action.applies_to(obj)}

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Fill in nothing from the URL, which may contain anything."""
        return {}

    def changeform_view(self, request: HttpRequest, object_id: str | None = None, *args: Any, **more: Any) -> Any:
        """Show a refusal as a message. The view's transaction was rolled back."""
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
            "steps": [(name, said) for name, said in self.buttons_for(obj).items() if name in allowed] if obj else [],
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
        """Return the URL where an action was started: an object's page if the object exists, else the list."""
        chosen = request.POST.getlist(ACTION_CHECKBOX_NAME)
        is_one = request.POST.get("begun_on") == "object" and len(chosen) == 1
        if is_one and self.get_object(request, chosen[0]) is not None:
            return reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", args=chosen)
        return request.get_full_path()

    def attempt(self, request: HttpRequest, objects: QuerySet[Any], act: Callable[[Any], object], done: str) -> None:
        """Call `act` for each object; show how many it was done for, and why it was refused for the others."""
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
            self.message_user(request, f"{some(names)}: {message}", messages.ERROR)
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
        """Return the page that says what will happen, to which objects, and asks for confirmation."""
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
    """The base for what was reported or has happened: it is shown, never edited."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


def some(names: list[str], most: int = 3) -> str:
    """Return a few names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
