"""Bundles in the admin: published by the command line or uploaded here as an archive; never changed."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from unfold.decorators import display
from unfold.widgets import UnfoldAdminFileFieldWidget, UnfoldAdminTextInputWidget

from bundles import publishing
from bundles.admin.archives import PLAIN, SendingArchives
from bundles.archives.browser_uploads import sends_directly
from bundles.archives.drafting import draft_from_archive
from bundles.models import NAME_PATTERN, Bundle
from foundation.adminsite.base import actor_of, is_confirmed
from foundation.errors import ApiError
from foundation.events.models import Event
from foundation.formatting import size

STATE_COLOURS = {"draft": "info", "verifying": "warning", "ready": "success", "withdrawn": "danger"}
FILES_SHOWN = 200
HISTORY_SHOWN = 15


class ArchiveForm(forms.ModelForm):  # type: ignore[type-arg]
    """A draft out of an archive. What files cannot say stands in its kernex.toml."""

    name = forms.RegexField(NAME_PATTERN, widget=UnfoldAdminTextInputWidget, error_messages=PLAIN, help_text="vad")
    version = forms.RegexField(NAME_PATTERN, widget=UnfoldAdminTextInputWidget, error_messages=PLAIN, help_text="1.0.0")
    archive = forms.FileField(
        widget=UnfoldAdminFileFieldWidget,
        help_text="tar, tar.gz or zip. A kernex.toml at its root says what files cannot; see the manual on bundles.",
    )

    # Whose draft it is; set for each request.
    actor = ""
    user: Any = None

    class Meta:
        model = Bundle
        fields: list[str] = []

    def _post_clean(self) -> None:
        """Nothing: the room checks, not the empty instance that Django would check here."""

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if sends_directly():
            raise forms.ValidationError("Archives go to storage itself here: let this page run its script.")
        if not self.errors:
            try:
                self.drafted = draft_from_archive(
                    cleaned["archive"].file,
                    cleaned["name"],
                    cleaned["version"],
                    actor=self.actor,
                    user=self.user,
                )
            except ApiError as error:
                raise forms.ValidationError(error.message) from error
        return cleaned


@admin.register(Bundle)
class BundleAdmin(SendingArchives):
    offered_permissions = ("view", "add", "change")
    list_display = (
        "__str__",
        "shown_state",
        "shown_size",
        "file_count",
        "shown_device_types",
        "created_by",
        "created_at",
    )
    list_select_related = ("created_by",)
    list_filter = ("state", "name")
    search_fields = ("name", "version", "manifest_sha256")
    actions = ("publish", "discard", "withdraw")
    readonly_fields = (
        "name", "version", "shown_state", "state_reason", "shown_size", "file_count", "shown_device_types",
        "shown_manifest", "created_by", "created_at", "ready_at", "withdrawn_at",
    )  # fmt: skip
    fields = readonly_fields
    change_form_after_template = "bundles/bundle_content.html"
    add_lead = (
        "For large bundles use the command line: kernex push sends them in parts and resumes. This makes a draft, which"
        " you then publish."
    )
    add_button = "Make the draft"
    empty_text = "No bundle yet. Push one with kernex push, or upload an archive here."

    def get_queryset(self, request: HttpRequest) -> QuerySet[Bundle]:
        return super().get_queryset(request).defer("manifest")

    def buttons_for(self, obj: Bundle) -> dict[str, str]:
        return {"draft": {"publish": "Publish", "discard": "Discard"}, "ready": {"withdraw": "Withdraw"}}.get(
            obj.state, {}
        )

    def has_change_permission(self, request: HttpRequest, obj: Bundle | None = None) -> bool:
        return obj is None and super().has_change_permission(request, obj)

    def get_fields(self, request: HttpRequest, obj: Bundle | None = None) -> Any:
        return self.fields if obj else ("name", "version", "archive")

    def get_readonly_fields(self, request: HttpRequest, obj: Bundle | None = None) -> Any:
        return self.readonly_fields if obj else ()

    def get_form(self, request: HttpRequest, obj: Bundle | None = None, change: bool = False, **kwargs: Any) -> Any:
        if obj is not None:
            return super().get_form(request, obj, change, **kwargs)
        return type("ArchiveForm", (ArchiveForm,), {"actor": actor_of(request), "user": request.user})

    def changeform_view(self, request: HttpRequest, object_id: str | None = None, *args: Any, **more: Any) -> Any:
        """An archive is read outside of a transaction: the database ends one that is idle for long."""
        if object_id is None and request.method == "POST":
            return self._changeform_view(request, None, "", more.get("extra_context"))
        return super().changeform_view(request, object_id, *args, **more)

    def save_form(self, request: HttpRequest, form: Any, change: bool) -> Bundle:
        return form.drafted

    def save_model(self, request: HttpRequest, obj: Bundle, form: Any, change: bool) -> None:
        """Nothing: the form has drafted it."""

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Nothing: the files were drafted too."""

    def response_add(self, request: HttpRequest, obj: Bundle, *args: Any, **kwargs: Any) -> HttpResponse:
        self.message_user(request, f"{obj} is a draft now. Look through its files, then publish it.", messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:bundles_bundle_change", args=[obj.pk]))

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> HttpResponse:
        more = dict(kwargs.pop("extra_context", None) or {})
        bundle = self.get_object(request, object_id)
        if bundle is not None:
            more["files"] = bundle.files.all()[:FILES_SHOWN]
            more["events"] = Event.objects.filter(bundle_id=bundle.pk)[:HISTORY_SHOWN]
        return super().change_view(request, object_id, *args, extra_context=more, **kwargs)

    @display(description="state", ordering="state", label=STATE_COLOURS)
    def shown_state(self, bundle: Bundle) -> str:
        return bundle.state

    @display(description="size", ordering="size")
    def shown_size(self, bundle: Bundle) -> str:
        return size(bundle.size)

    @display(description="for device types")
    def shown_device_types(self, bundle: Bundle) -> str:
        return ", ".join(bundle.device_types) or "any"

    @display(description="SHA-256 of its manifest")
    def shown_manifest(self, bundle: Bundle) -> str:
        return bundle.manifest_sha256

    @admin.action(description="Publish: make drafts ready to be deployed", permissions=["change"])
    def publish(self, request: HttpRequest, queryset: QuerySet[Bundle]) -> HttpResponse | None:
        if not is_confirmed(request):
            consequence = "Their files are verified; then they are ready to be deployed. Nothing is deployed by this."
            return self.ask(request, queryset, action="publish", title="Publish bundles", consequence=consequence)
        self.attempt(request, queryset, lambda one: publishing.publish(one, actor=actor_of(request)), "Published")
        return None

    @admin.action(description="Discard: delete drafts", permissions=["change"])
    def discard(self, request: HttpRequest, queryset: QuerySet[Bundle]) -> HttpResponse | None:
        if not is_confirmed(request):
            consequence = "The drafts are deleted, and their versions are free again. Nothing of them runs anywhere."
            return self.ask(
                request, queryset, action="discard", title="Discard drafts", consequence=consequence, is_final=True
            )
        self.attempt(request, queryset, lambda one: publishing.discard(one, actor=actor_of(request)), "Discarded")
        return None

    @admin.action(description="Withdraw: take them out of service", permissions=["change"])
    def withdraw(self, request: HttpRequest, queryset: QuerySet[Bundle]) -> HttpResponse | None:
        if not is_confirmed(request):
            consequence = "Nobody can deploy or download them any more. Devices that run them keep running them."
            return self.ask(
                request, queryset, action="withdraw", title="Withdraw bundles", consequence=consequence, is_final=True
            )
        self.attempt(request, queryset, lambda one: publishing.withdraw(one, actor=actor_of(request)), "Withdrawn")
        return None
