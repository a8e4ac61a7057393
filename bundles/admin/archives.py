"""Archives that browsers put into the bucket."""

from typing import Any, cast
from uuid import UUID

from django import forms
from django.contrib import admin
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404
from django.urls import path, reverse
from django.utils.html import format_html
from unfold.decorators import display

from bundles.archives import browser_uploads
from bundles.identifiers import ANCHORED_NAME_PATTERN
from bundles.models import ArchiveState, SentArchive
from bundles.storage.interface import direct_uploads
from foundation.adminsite.base import OperatorAdmin, ReadOnlyAdmin, actor_of
from foundation.errors import ApiError
from foundation.formatting import EMPTY, size

STATE_COLOURS = {
    ArchiveState.READING.value: "warning",
    ArchiveState.DRAFTED.value: "success",
    ArchiveState.REFUSED.value: "danger",
}
NAME_MESSAGES = {"invalid": "Use at most 63 lowercase letters, digits and . _ + - and begin with a letter or a digit."}


class SentArchiveForm(forms.Form):
    """What a browser declares about an archive before it sends the archive to the bucket."""

    name = forms.RegexField(ANCHORED_NAME_PATTERN, error_messages=NAME_MESSAGES)
    version = forms.RegexField(ANCHORED_NAME_PATTERN, error_messages=NAME_MESSAGES)
    size = forms.IntegerField(min_value=1)


def refusal(message: str) -> JsonResponse:
    return JsonResponse({"message": message}, status=400)


@admin.register(SentArchive)
class SentArchiveAdmin(ReadOnlyAdmin):
    """Archives that browsers put into the bucket, and their results."""

    list_display = ("__str__", "shown_state", "state_reason", "shown_size", "created_by", "created_at")
    list_select_related = ("created_by",)
    fields = readonly_fields = (
        "name", "version", "shown_state", "state_reason", "shown_bundle", "shown_size", "created_by", "created_at",
    )  # fmt: skip
    change_form_after_template = "bundles/sent_archive.html"
    empty_text = "No archives have been sent to the bucket."

    def has_view_permission(self, request: HttpRequest, obj: SentArchive | None = None) -> bool:
        return self.has_right(request, "bundles.view_bundle")

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_right(request, "bundles.view_bundle")

    @display(description="state", ordering="state", label=STATE_COLOURS)
    def shown_state(self, archive: SentArchive) -> str:
        return archive.state

    @display(description="size", ordering="size")
    def shown_size(self, archive: SentArchive) -> str:
        return size(archive.size)

    @display(description="draft")
    def shown_bundle(self, archive: SentArchive) -> str:
        if archive.bundle_id is None:
            return EMPTY
        url = reverse("admin:bundles_bundle_change", args=[archive.bundle_id])
        return format_html('<a class="kx-link" href="{}">{}</a>', url, archive)


class ArchiveUploadAdmin(OperatorAdmin):
    """The endpoints that the script of the page "Add bundle" calls to put an archive into the bucket."""

    def get_urls(self) -> list[Any]:
        guarded = self.admin_site.admin_view
        return [
            path("archive/", guarded(self.start_archive), name="bundles_start_archive"),
            path("archive/<uuid:pk>/", guarded(self.archive_arrived), name="bundles_archive_arrived"),
            *super().get_urls(),
        ]

    def start_archive(self, request: HttpRequest) -> JsonResponse:
        """Return the URL to PUT an archive to, if its name and version are valid."""
        if request.method != "POST" or not self.has_add_permission(request):
            raise PermissionDenied
        form = SentArchiveForm(request.POST)
        if not form.is_valid():
            return refusal(" ".join(f"{name}: {' '.join(map(str, errors))}" for name, errors in form.errors.items()))
        try:
            archive, url = browser_uploads.start(
                **form.cleaned_data, actor=actor_of(request), user=cast(User, request.user)
            )
        except ApiError as error:
            return refusal(error.message)
        return JsonResponse({"url": url, "arrived_url": reverse("admin:bundles_archive_arrived", args=[archive.pk])})

    def archive_arrived(self, request: HttpRequest, pk: UUID) -> JsonResponse:
        """Queue an archive that the browser has put into the bucket for reading."""
        if request.method != "POST" or not self.has_add_permission(request):
            raise PermissionDenied
        archive = get_object_or_404(SentArchive, pk=pk, created_by=request.user)
        try:
            browser_uploads.hand_over(archive)
        except ApiError as error:
            return refusal(error.message)
        return JsonResponse({"url": reverse("admin:bundles_sentarchive_change", args=[pk])})

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **more: Any) -> Any:
        context["sends_directly"] = context.get("original") is None and direct_uploads() is not None
        return super().render_change_form(request, context, *args, **more)
