"""The admin of groups and enrolment tokens."""

from datetime import timedelta
from typing import Any, cast
from urllib.parse import urlencode

from django import forms
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.base_user import AbstractBaseUser
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from unfold.decorators import display
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminTextInputWidget

from devices.dynamic_groups import check_group_query, device_count
from devices.group_removal import remove_group
from devices.models import EnrolmentToken, Group
from devices.queries.filtering import explanation
from foundation.adminsite.base import Action, OperatorAdmin, TokenAdmin, actor_of
from foundation.errors import BadRequest
from foundation.formatting import EMPTY
from foundation.queries.lexer import MAX_QUERY_SIZE

TOKEN_DAYS = 7
TOKEN_COLOURS = {"usable": "success", "used up": "info", "expired": "warning", "revoked": "danger"}
REMOVE = Action(
    "remove",
    description="Remove: only groups without devices",
    button="Remove",
    title="Remove groups",
    consequence="A group is deleted with its ended tokens, unless devices or usable tokens belong to it.",
    done="Removed",
    act=remove_group,
    permission="remove",
    is_final=True,
)
REVOKE = Action(
    "revoke",
    description="Revoke",
    button="Revoke",
    title="Revoke enrolment tokens",
    consequence="No more devices can register with them. Devices that registered with them stay registered.",
    done="Revoked",
    act=lambda token, actor: token.revoke(actor),
    is_final=True,
    applies_to=lambda token: token.revoked_at is None,
)


class GroupForm(forms.ModelForm):  # type: ignore[type-arg]
    query = forms.CharField(
        required=False, max_length=MAX_QUERY_SIZE, widget=UnfoldAdminTextInputWidget,
        help_text="Makes the group dynamic: it contains all devices that match, such as: type = cam and tag = north",
    )  # fmt: skip
    interval_seconds = forms.IntegerField(
        label="Heartbeat interval", min_value=1, max_value=86_400, initial=60, widget=UnfoldAdminIntegerFieldWidget,
        help_text="Seconds between two heartbeats of a device. A device that misses three is offline. Not for dynamic"
        " groups.",
    )  # fmt: skip

    class Meta:
        model = Group
        fields = ["name", "description", "query", "interval_seconds"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance._state.adding:
            return
        del self.fields[other_field(self.instance)]
        if self.instance.is_dynamic:
            self.fields["query"].required = True

    def clean_query(self) -> str:
        query: str = self.cleaned_data["query"]
        if query:
            try:
                check_group_query(query)
            except BadRequest as error:
                raise forms.ValidationError(explanation(error)) from None
        return query


def other_field(group: Group) -> str:
    """Return the field that a group of this type does not have."""
    return "interval_seconds" if group.is_dynamic else "query"


@admin.register(Group)
class GroupAdmin(OperatorAdmin):
    form = GroupForm
    offered_permissions = ("view", "add", "change", "delete")
    list_display = ("name", "shown_query", "description", "shown_interval", "created_at")
    readonly_fields = ("shown_devices",)
    search_fields = ("name", "description")
    actions = (REMOVE,)
    empty_text = "No groups yet. Devices register in groups, so create one first."

    def has_remove_permission(self, request: HttpRequest) -> bool:
        return self.has_right(request, "devices.delete_group")

    def get_fields(self, request: HttpRequest, obj: Group | None = None) -> Any:
        if obj is None:
            return GroupForm.Meta.fields
        return [name for name in (*GroupForm.Meta.fields, *self.readonly_fields) if name != other_field(obj)]

    @display(description="heartbeat interval", ordering="interval_seconds")
    def shown_interval(self, group: Group) -> str:
        return EMPTY if group.is_dynamic else f"{group.interval_seconds} s"

    @display(description="query", ordering="query")
    def shown_query(self, group: Group) -> str:
        return group.query or EMPTY

    @display(description="devices")
    def shown_devices(self, group: Group) -> str:
        """Return how many pending and accepted devices the group has, with a link to the list of devices."""
        count = device_count(group)
        if count is None:
            return "Counting takes too long."
        query = {"q": group.query} if group.is_dynamic else {"group__id__exact": str(group.pk)}
        return format_html(
            '<a class="kx-link" href="{}?{}">{}</a>',
            reverse("admin:devices_device_changelist"),
            urlencode(query),
            count,
        )

    def save_model(self, request: HttpRequest, obj: Group, form: Any, change: bool) -> None:
        if change:
            obj.edit(actor_of(request), **{name: form.cleaned_data[name] for name in form.changed_data})
        else:
            obj.pk = Group.create(actor_of(request), **form.cleaned_data).pk
            obj.refresh_from_db()

    def return_url(self, request: HttpRequest) -> str:
        """Return the list, because the page of a removed group no longer exists."""
        return request.get_full_path()


class EnrolmentTokenForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = EnrolmentToken
        fields = ["name", "group", "uses_allowed", "expires_at", "accepts_at_once"]
        help_texts = {
            "name": "The purpose of the token, such as “first 50 cameras”.",
            "group": "Devices that register with it belong to this group.",
            "uses_allowed": "How many devices may register with it.",
            "accepts_at_once": "Otherwise each device waits for approval.",
        }

    def clean_uses_allowed(self) -> int:
        return between(self.cleaned_data["uses_allowed"], 1, 1_000_000)

    def clean_expires_at(self) -> Any:
        if self.cleaned_data["expires_at"] <= timezone.now():
            raise forms.ValidationError("This time has passed.")
        return self.cleaned_data["expires_at"]


def between(value: int, minimum: int, maximum: int) -> int:
    """Return `value`, or raise a `ValidationError` if it is out of range."""
    if not minimum <= value <= maximum:
        raise forms.ValidationError(f"Use a number from {minimum} to {maximum}.")
    return value


@admin.register(EnrolmentToken)
class EnrolmentTokenAdmin(TokenAdmin):
    form = EnrolmentTokenForm
    offered_permissions = ("view", "add", "change")
    list_display = ("name", "shown_state", "group", "shown_uses", "shown_arrival", "expires_at")
    list_select_related = ("group",)
    list_filter = ("group", "accepts_at_once")
    search_fields = ("name",)
    readonly_fields = ("shown_state", "shown_uses", "shown_arrival", "revoked_at", "created_at", "created_by")
    actions = (REVOKE,)
    add_lead = "The token is shown once, on the next page. Anyone who has it can register devices in the group."
    add_button = "Create token"
    empty_text = "No token yet. A device needs one to register."

    def has_change_permission(self, request: HttpRequest, obj: EnrolmentToken | None = None) -> bool:
        return obj is None and super().has_change_permission(request, obj)

    def get_fields(self, request: HttpRequest, obj: EnrolmentToken | None = None) -> Any:
        if obj is None:
            return EnrolmentTokenForm.Meta.fields
        return ("name", "group", "expires_at", *self.readonly_fields)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        expires_at = (timezone.now() + timedelta(days=TOKEN_DAYS)).replace(minute=0, second=0, microsecond=0)
        return {"expires_at": expires_at, **super().get_changeform_initial_data(request)}

    @display(description="state", label=TOKEN_COLOURS)
    def shown_state(self, token: EnrolmentToken) -> str:
        if token.revoked_at:
            return "revoked"
        if token.expires_at <= timezone.now():
            return "expired"
        return "used up" if token.uses >= token.uses_allowed else "usable"

    @display(description="uses", ordering="uses")
    def shown_uses(self, token: EnrolmentToken) -> str:
        return f"{token.uses} of {token.uses_allowed}"

    @display(description="new devices", ordering="accepts_at_once")
    def shown_arrival(self, token: EnrolmentToken) -> str:
        return "are accepted at once" if token.accepts_at_once else "wait for approval"

    def save_model(self, request: HttpRequest, obj: EnrolmentToken, form: Any, change: bool) -> None:
        token, secret = EnrolmentToken.issue(
            **form.cleaned_data, created_by=cast(AbstractBaseUser, request.user), actor=actor_of(request)
        )
        obj.pk = token.pk
        request.secret_to_show = secret  # type: ignore[attr-defined]

    def response_add(self, request: HttpRequest, obj: EnrolmentToken, *args: Any, **kwargs: Any) -> HttpResponse:
        return self.show_secret(request, obj, request.secret_to_show, settings.PUBLIC_URL)  # type: ignore[attr-defined]
