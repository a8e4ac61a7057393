"""Who may do what: users, groups of users, API tokens.

Nobody hands out more than they have: rights, groups and the accounts of superusers are for superusers to change.
"""

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, Permission, User
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from foundation.accounts.models import ApiToken, Role
from foundation.adminsite.base import BaseAdmin, TokenAdmin, actor_of, is_confirmed
from foundation.events.models import record_event

admin.site.unregister(User)
admin.site.unregister(Group)


def used_permissions() -> QuerySet[Permission]:
    """The permissions that some page of the admin asks for."""
    chosen = Permission.objects.none()
    for model, page in admin.site._registry.items():
        codenames = [f"{verb}_{model._meta.model_name}" for verb in getattr(page, "offered_permissions", ())]
        if codenames:
            chosen |= Permission.objects.filter(content_type__app_label=model._meta.app_label, codename__in=codenames)
    return chosen.select_related("content_type")


@admin.register(User)
class UserAdmin(DjangoUserAdmin, BaseAdmin):  # type: ignore[type-arg]
    offered_permissions = ("view", "add", "change")
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "email", "is_active", "is_staff", "is_superuser", "last_login")
    filter_horizontal = ()  # two lists side by side are wider than the page
    show_full_result_count = False

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        given = ("last_login", "date_joined")
        return given if request.user.is_superuser else (*given, "is_superuser", "groups", "user_permissions")

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "user_permissions":
            kwargs["queryset"] = used_permissions()
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        if obj is not None and obj.is_superuser and not request.user.is_superuser:
            return False
        return super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return False  # history names them; who is not active cannot do anything


@admin.register(Group)
class UserGroupAdmin(DjangoGroupAdmin, BaseAdmin):
    filter_horizontal = ()  # as above

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:  # type: ignore[override]
        if db_field.name == "permissions":
            kwargs["queryset"] = used_permissions()
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.is_active and request.user.is_superuser

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.has_add_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.has_add_permission(request)


@admin.register(ApiToken)
class ApiTokenAdmin(TokenAdmin):
    offered_permissions = ("view", "add", "change")
    list_display = ("name", "role", "user", "created_at", "last_used_at", "expires_at", "revoked_at")
    list_select_related = ("user",)
    list_filter = ("role",)
    search_fields = ("name", "user__username")
    fields = ("name", "user", "role", "expires_at")
    actions = ("revoke",)
    ordering = ("-created_at",)
    readonly_fields = ("created_at", "last_used_at", "revoked_at")
    add_lead = "The token is shown once, on the next page. Whoever has it acts in the name of its user."
    add_button = "Make the token"
    empty_text = "No token yet. Programs and the command line each need one."

    def has_change_permission(self, request: HttpRequest, obj: ApiToken | None = None) -> bool:
        return obj is None and super().has_change_permission(request, obj)

    def get_fields(self, request: HttpRequest, obj: ApiToken | None = None) -> Any:
        return (*self.fields, *self.readonly_fields) if obj else self.fields

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "user":
            kwargs["initial"] = request.user.pk
        if db_field.name == "user" and not request.user.is_superuser:
            kwargs["queryset"] = User.objects.filter(username=request.user.get_username())
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def formfield_for_choice_field(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "role":
            kwargs["choices"] = [(role.value, role.label) for role in roles_for(request.user)]
        return super().formfield_for_choice_field(db_field, request, **kwargs)

    def buttons_for(self, obj: ApiToken) -> dict[str, str]:
        return {"revoke": "Revoke"} if obj.revoked_at is None else {}

    def save_model(self, request: HttpRequest, obj: ApiToken, form: Any, change: bool) -> None:
        made, secret = ApiToken.issue(**form.cleaned_data)
        record_event(
            "api_token.issued", f"API token {made} for {made.user}.", actor=actor_of(request), token=str(made.pk)
        )
        obj.pk = made.pk
        request.secret_to_show = secret  # type: ignore[attr-defined]

    def response_add(self, request: HttpRequest, obj: ApiToken, *args: Any, **kwargs: Any) -> HttpResponse:
        return self.show_secret(request, obj, request.secret_to_show)  # type: ignore[attr-defined]

    @admin.action(description="Revoke", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiToken]) -> HttpResponse | None:
        if not is_confirmed(request):
            return self.ask(
                request, queryset, action="revoke", title="Revoke API tokens", is_final=True,
                consequence="Programs that use them are refused from now on.",
            )  # fmt: skip
        self.attempt(request, queryset, lambda token: self.end(request, token), "Revoked")
        return None

    def end(self, request: HttpRequest, token: ApiToken) -> None:
        if token.revoke():
            record_event(
                "api_token.revoked", f"API token {token} was revoked.", actor=actor_of(request), token=str(token.pk)
            )


def roles_for(user: Any) -> list[Role]:
    """The roles that this person may give to an API token: never more than they may do themselves."""
    needed = settings.ROLE_PERMISSIONS
    return [role for role in Role if user.is_superuser or (role in needed and user.has_perms(needed[role]))]
