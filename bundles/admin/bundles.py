"""The admin's pages for bundles, which the command line pushes or which are uploaded here as an archive."""

from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from unfold.decorators import display
from unfold.widgets import UnfoldAdminFileFieldWidget, UnfoldAdminTextInputWidget

from bundles.admin.archives import NAME_MESSAGES, ArchiveUploadAdmin
from bundles.archives.drafting import draft_from_archive
from bundles.identifiers import ANCHORED_NAME_PATTERN
from bundles.models import Bundle, BundleState
from bundles.publishing import publish
from bundles.storage.interface import direct_uploads
from foundation.adminsite.base import Action, actor_of
from foundation.errors import ApiError
from foundation.events.models import Event
from foundation.formatting import size

STATE_COLOURS = {
    BundleState.DRAFT.value: "info",
    BundleState.VERIFYING.value: "warning",
    BundleState.READY.value: "success",
    BundleState.WITHDRAWN.value: "danger",
}
SHOWN_FILES = 200
SHOWN_EVENTS = 15


PUBLISH = Action(
    "publish",
    description="Publish: make drafts ready to be deployed",
    button="Publish",
    title="Publish bundles",
    consequence="Their files are verified; then they are ready to be deployed. This does not deploy anything.",
    done="Published",
    act=lambda bundle, actor: publish(bundle, actor=actor),
    applies_to=lambda bundle: bundle.state == BundleState.DRAFT,
)
DISCARD = Action(
    "discard",
    description="Discard: delete drafts",
    button="Discard",
    title="Discard drafts",
    consequence="The drafts are deleted, and their versions can be used again. No device runs them.",
    done="Discarded",
    act=lambda bundle, actor: bundle.discard(actor=actor),
    is_final=True,
    applies_to=lambda bundle: bundle.state == BundleState.DRAFT,
)
WITHDRAW = Action(
    "withdraw",
    description="Withdraw: take bundles out of service",
    button="Withdraw",
    title="Withdraw bundles",
    consequence="Nobody can deploy or download them any more. Devices that run them keep running them.",
    done="Withdrawn",
    act=lambda bundle, actor: bundle.withdraw(actor=actor),
    is_final=True,
    applies_to=lambda bundle: bundle.state == BundleState.READY,
)


class ArchiveForm(forms.ModelForm):  # type: ignore[type-arg]
    """A new draft from an archive. Saving reads the archive; the form checks only what it can without reading it."""

    name = forms.RegexField(
        ANCHORED_NAME_PATTERN, widget=UnfoldAdminTextInputWidget, error_messages=NAME_MESSAGES, help_text="vad"
    )
    version = forms.RegexField(
        ANCHORED_NAME_PATTERN, widget=UnfoldAdminTextInputWidget, error_messages=NAME_MESSAGES, help_text="1.0.0"
    )
    archive = forms.FileField(
        widget=UnfoldAdminFileFieldWidget,
        help_text="tar, tar.gz or zip. A kernex.toml at its root sets the fields that cannot be derived from files.",
    )

    class Meta:
        model = Bundle
        fields: list[str] = []

    def _get_validation_exclusions(self) -> set[str]:
        """Exclude every column: the instance stays empty until it is saved."""
        return {field.name for field in Bundle._meta.get_fields()}

    def clean(self) -> dict[str, Any]:
        if direct_uploads() is not None:
            raise forms.ValidationError("Archives are sent directly to storage: allow this page to run its script.")
        return super().clean() or {}


@admin.register(Bundle)
class BundleAdmin(ArchiveUploadAdmin):
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
    actions = (PUBLISH, DISCARD, WITHDRAW)
    readonly_fields = (
        "name", "version", "shown_state", "state_reason", "shown_size", "file_count", "shown_device_types",
        "shown_manifest", "created_by", "created_at", "ready_at", "withdrawn_at",
    )  # fmt: skip
    fields = readonly_fields
    change_form_after_template = "bundles/bundle_content.html"
    add_lead = (
        "For large bundles use the command line: kernex push sends them in parts and resumes. This form creates a"
        " draft, which you then publish."
    )
    add_button = "Create draft"
    empty_text = "No bundles yet. Push one with kernex push, or upload an archive here."

    def get_queryset(self, request: HttpRequest) -> QuerySet[Bundle]:
        return super().get_queryset(request).defer("manifest")

    def has_change_permission(self, request: HttpRequest, obj: Bundle | None = None) -> bool:
        return obj is None and super().has_change_permission(request, obj)

    def get_fields(self, request: HttpRequest, obj: Bundle | None = None) -> Any:
        return self.fields if obj else ("name", "version", "archive")

    def get_readonly_fields(self, request: HttpRequest, obj: Bundle | None = None) -> Any:
        return self.readonly_fields if obj else ()

    def get_form(self, request: HttpRequest, obj: Bundle | None = None, change: bool = False, **kwargs: Any) -> Any:
        if obj is not None:
            return super().get_form(request, obj, change, **kwargs)
        return ArchiveForm

    def changeform_view(self, request: HttpRequest, object_id: str | None = None, *args: Any, **more: Any) -> Any:
        """Read an archive outside of a transaction: the database aborts a transaction that is idle for too long."""
        if object_id is not None or request.method != "POST":
            return super().changeform_view(request, object_id, *args, **more)
        try:
            return self._changeform_view(request, None, "", more.get("extra_context"))
        except ApiError as error:
            self.message_user(request, error.message, messages.ERROR)
            return HttpResponseRedirect(request.get_full_path())

    def save_model(self, request: HttpRequest, obj: Bundle, form: Any, change: bool) -> None:
        """Draft the bundle that the archive contains; `obj` becomes that bundle."""
        archive = form.cleaned_data
        draft = draft_from_archive(
            archive["archive"].file,
            archive["name"],
            archive["version"],
            actor=actor_of(request),
            user=cast(User, request.user),
        )
        obj.pk = draft.pk
        obj.refresh_from_db()

    def response_add(self, request: HttpRequest, obj: Bundle, *args: Any, **kwargs: Any) -> HttpResponse:
        self.message_user(request, f"{obj} is a draft now. Check its files, then publish it.", messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:bundles_bundle_change", args=[obj.pk]))

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> HttpResponse:
        context = dict(kwargs.pop("extra_context", None) or {})
        bundle = self.get_object(request, object_id)
        if bundle is not None:
            context["files"] = bundle.files.all()[:SHOWN_FILES]
            context["events"] = Event.objects.filter(bundle_id=bundle.pk)[:SHOWN_EVENTS]
        return super().change_view(request, object_id, *args, extra_context=context, **kwargs)

    @display(description="state", ordering="state", label=STATE_COLOURS)
    def shown_state(self, bundle: Bundle) -> str:
        return bundle.state

    @display(description="size", ordering="size")
    def shown_size(self, bundle: Bundle) -> str:
        return size(bundle.size)

    @display(description="device types")
    def shown_device_types(self, bundle: Bundle) -> str:
        return ", ".join(bundle.device_types) or "any"

    @display(description="SHA-256 of its manifest")
    def shown_manifest(self, bundle: Bundle) -> str:
        return bundle.manifest_sha256
