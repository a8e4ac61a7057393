"""The admin of people, groups of people and API tokens.

Nobody can grant more than they have. Only superusers change permissions and groups, and nobody can edit an account that
has permissions that they lack themselves. Every change is an event.
"""

from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, Permission, User
from django.db.models import Model, QuerySet
from django.forms import ModelForm, ModelMultipleChoiceField
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from foundation.accounts.models import ApiToken, granted_permissions, roles_of
from foundation.adminsite.base import Action, BaseAdmin, TokenAdmin, actor_of
from foundation.events.models import record_event

admin.site.unregister(User)
admin.site.unregister(Group)


def used_permissions() -> QuerySet[Permission]:
    """Return the permissions that the admin's pages check."""
    permissions = Permission.objects.none()
    for model, page in admin.site._registry.items():
        codenames = [f"{verb}_{model._meta.model_name}" for verb in getattr(page, "offered_permissions", ())]
        if codenames:
            permissions |= Permission.objects.filter(
                content_type__app_label=model._meta.app_label, codename__in=codenames
            )
    return permissions.select_related("content_type")


def changes_of(form: Any) -> dict[str, Any]:
    """Return a form's changes for an event: the new value of each field, except passwords."""
    changes: dict[str, Any] = {}
    for name in form.changed_data:
        value = form.cleaned_data.get(name)
        if "password" in name:
            changes["password"] = "set"  # noqa: S105 - a description, not a password
        elif isinstance(form.fields.get(name), ModelMultipleChoiceField):
            before, after = set(form.initial.get(name) or ()), set(value or ())
            changes[name] = {"added": sorted(map(str, after - before)), "removed": sorted(map(str, before - after))}
        else:
            changes[name] = value if isinstance(value, bool) else str(value)
    return changes


class EventfulAdmin(BaseAdmin):
    """The base for pages that record each change as an event, with the actor and the changed fields."""

    event_kind = ""

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        """Return the changes, which Django passes to `log_addition` or `log_change` after saving."""
        return changes_of(form)

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        self.record(request, obj, "added", message)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        if message:
            self.record(request, obj, "changed", message)

    def record(self, request: HttpRequest, obj: Any, verb: str, changes: dict[str, Any]) -> None:
        fields = f" ({', '.join(sorted(changes)).replace('_', ' ')})" if verb == "changed" else ""
        record_event(
            f"{self.event_kind}.{verb}",
            f"{str(self.opts.verbose_name).capitalize()} {obj} was {verb}{fields}.",
            actor=actor_of(request),
            object=str(obj),
            object_id=obj.pk,
            changes=changes,
        )


@admin.register(User)
class UserAdmin(DjangoUserAdmin, EventfulAdmin):  # type: ignore[type-arg, misc]
    offered_permissions = ("view", "add", "change")
    event_kind = "user"
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "email", "is_active", "is_staff", "is_superuser", "last_login")
    filter_horizontal = ()  # two lists side by side are wider than the page
    show_full_result_count = False

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        always = ("last_login", "date_joined")
        return always if request.user.is_superuser else (*always, "is_superuser", "groups", "user_permissions")

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "user_permissions":
            kwargs["queryset"] = used_permissions()
        return super().formfield_for_manytomany(db_field, request, **kwargs)

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Also guards the page that sets a password. The permissions of an inactive account count as well."""
        if not super().has_change_permission(request, obj):
            return False
        if obj is None or request.user.is_superuser:
            return True
        return not obj.is_superuser and granted_permissions(obj) <= granted_permissions(request.user)  # type: ignore[arg-type]

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return False  # events name people; deactivate an account instead


@admin.register(Group)
class UserGroupAdmin(DjangoGroupAdmin, EventfulAdmin):  # type: ignore[misc]
    event_kind = "user_group"
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

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        for group in queryset:
            self.record(request, group, "deleted", {})


class ApiTokenForm(ModelForm):  # type: ignore[type-arg]
    def clean_expires_at(self) -> Any:
        expires_at = self.cleaned_data["expires_at"]
        if expires_at is not None and expires_at <= timezone.now():
            self.add_error("expires_at", "Choose a time in the future.")
        return expires_at


@admin.register(ApiToken)
class ApiTokenAdmin(TokenAdmin):
    offered_permissions = ("view", "add", "change")
    form = ApiTokenForm
    list_display = ("name", "role", "user", "created_at", "last_used_at", "expires_at", "revoked_at")
    list_select_related = ("user",)
    list_filter = ("role",)
    search_fields = ("name", "user__username")
    fields = ("name", "user", "role", "expires_at")
    actions = (
        Action(
            name="revoke",
            description="Revoke",
            button="Revoke",
            title="Revoke API tokens",
            consequence="From now on, programs that use these tokens are refused.",
            done="Revoked",
            act=lambda token, actor: token.revoke(actor),
            is_final=True,
            applies_to=lambda token: token.revoked_at is None,
        ),
    )
    ordering = ("-created_at",)
    readonly_fields = ("created_at", "last_used_at", "revoked_at")
    add_lead = "The token is shown once, on the next page. Anyone who has the token can act on behalf of its owner."
    add_button = "Create token"
    empty_text = "No tokens yet. Each program, and the command line, needs its own."

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
            kwargs["choices"] = [(role.value, role.label) for role in roles_of(request.user)]  # type: ignore[arg-type]
        return super().formfield_for_choice_field(db_field, request, **kwargs)

    def save_model(self, request: HttpRequest, obj: ApiToken, form: Any, change: bool) -> None:
        token, secret = ApiToken.issue(**form.cleaned_data, actor=actor_of(request))
        obj.pk = token.pk
        request.secret_to_show = secret  # type: ignore[attr-defined]

    def response_add(self, request: HttpRequest, obj: ApiToken, *args: Any, **kwargs: Any) -> HttpResponse:
        return self.show_secret(request, obj, request.secret_to_show)  # type: ignore[attr-defined]
