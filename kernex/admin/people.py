"""Who may do what: users, groups of users, API tokens; and what happened: events."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from kernex.admin.manners import Page, ReadOnly, actor_of, is_confirmed
from kernex.events.models import Event, record
from kernex.tokens.models import ApiToken

admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):  # type: ignore[type-arg]
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "email", "is_active", "is_staff", "is_superuser", "last_login")


@admin.register(Group)
class UserGroupAdmin(DjangoGroupAdmin, ModelAdmin):
    pass


@admin.register(ApiToken)
class ApiTokenAdmin(Page):
    list_display = ("name", "role", "user", "created_at", "last_used_at", "expires_at", "revoked_at")
    list_select_related = ("user",)
    list_filter = ("role",)
    search_fields = ("name", "user__username")
    fields = ("name", "user", "role", "expires_at")
    actions = ("revoke",)

    def has_change_permission(self, request: HttpRequest, obj: ApiToken | None = None) -> bool:
        return obj is None and super().has_change_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: ApiToken, form: Any, change: bool) -> None:
        made, secret = ApiToken.issue(**form.cleaned_data)
        record("api_token.issued", f"API token {made} for {made.user}.", actor=actor_of(request), token=str(made.pk))
        obj.pk = made.pk
        request.secret_to_show = secret  # type: ignore[attr-defined]

    def response_add(self, request: HttpRequest, obj: ApiToken, *args: Any, **kwargs: Any) -> HttpResponse:
        """The one page that shows the token."""
        context = {
            **self.admin_site.each_context(request),
            "title": f"The API token {obj.name}",
            "secret": request.secret_to_show,  # type: ignore[attr-defined]
            "opts": self.opts,
        }
        answer = TemplateResponse(request, "kernex/secret.html", context)
        answer["Cache-Control"] = "no-store"
        return answer

    @admin.action(description="Revoke these tokens", permissions=["add"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> HttpResponse | None:
        if not is_confirmed(request):
            consequence = "Programs that use them are refused from now on."
            return self.ask(request, queryset, action="revoke", title="Revoke API tokens", consequence=consequence)
        self.attempt(request, queryset, lambda token: self.end(request, token), "Revoked")
        return None

    def end(self, request: HttpRequest, token: ApiToken) -> None:
        if token.revoke():
            record("api_token.revoked", f"API token {token} was revoked.", actor=actor_of(request), token=str(token.pk))


@admin.register(Event)
class EventAdmin(ReadOnly):
    list_display = ("at", "kind", "message", "actor")
    list_filter = ("kind",)
    search_fields = ("message", "actor", "device_id", "deployment_id", "bundle_id")
