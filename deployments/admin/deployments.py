"""Deployments in the admin: started, followed, cancelled; what happened is never edited."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Case, QuerySet, When
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.urls import URLPattern, path, reverse
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminSelectMultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
)

from bundles.models import Bundle
from deployments import rollout
from deployments.models import Deployment, DeviceDeployment
from deployments.progress import bars
from deployments.states import UNSUCCESSFUL, DeploymentState
from devices.models import Group
from foundation.adminsite.base import OperatorAdmin, actor_of, is_confirmed
from foundation.errors import ApiError
from foundation.events.models import Event
from foundation.formatting import EMPTY, duration

STATE_COLOURS = {"running": "info", "finished": "success", "cancelled": "warning"}
RESULTS_SHOWN = 100
HISTORY_SHOWN = 15
FAILURES_FIRST = Case(When(state__in=UNSUCCESSFUL, then=0), default=1)


class DeploymentForm(forms.ModelForm):  # type: ignore[type-arg]
    """What an operator decides: which bundle, to which groups. Single devices are chosen in the devices' list."""

    bundle = forms.ModelChoiceField(Bundle.objects.none(), widget=UnfoldAdminSelectWidget)
    groups = forms.ModelMultipleChoiceField(Group.objects.all(), widget=UnfoldAdminSelectMultipleWidget)
    note = forms.CharField(max_length=500, required=False, widget=UnfoldAdminTextInputWidget)

    # Who decides; set for each request.
    actor = ""
    user: Any = None

    class Meta:
        model = Deployment
        fields = ["bundle", "note"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["bundle"].queryset = Bundle.objects.ready().defer("manifest")  # type: ignore[attr-defined]

    def _post_clean(self) -> None:
        """Nothing: the room checks, not the empty instance that Django would check here."""

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if not self.errors:
            try:
                self.started = rollout.start(
                    cleaned["bundle"],
                    groups=[group.name for group in cleaned["groups"]],
                    actor=self.actor,
                    created_by=self.user,
                    note=cleaned["note"],
                )
            except ApiError as error:
                raise forms.ValidationError(error.message) from error
        return cleaned


@admin.register(Deployment)
class DeploymentAdmin(OperatorAdmin):
    offered_permissions = ("view", "add", "change")
    list_display = ("shown_bundle", "shown_state", "shown_progress", "note", "created_by", "created_at", "finished_at")
    list_select_related = ("bundle", "created_by")
    list_filter = ("state", "bundle__name")
    search_fields = ("bundle__name", "bundle__version", "note", "id")
    actions = ("cancel",)
    readonly_fields = (
        "bundle", "shown_state", "note", "shown_deadline", "shown_skipped", "created_by", "created_at",
        "cancelled_at", "finished_at",
    )  # fmt: skip
    fields = readonly_fields
    change_form_before_template = "deployments/deployment_progress.html"
    change_form_after_template = "deployments/deployment_results.html"
    add_lead = (
        "Every accepted device of these groups downloads the bundle, installs it and checks its health; if it is not"
        " well, the device goes back to what it ran before. Single devices are chosen in the list of devices."
    )
    add_button = "Deploy"
    empty_text = "Nothing was deployed yet. A deployment needs a ready bundle and accepted devices."

    def get_queryset(self, request: HttpRequest) -> QuerySet[Deployment]:
        return super().get_queryset(request).defer("bundle__manifest")

    def get_urls(self) -> list[URLPattern]:
        progress = path(
            "<uuid:deployment_id>/progress", self.admin_site.admin_view(self.progress), name="deployment-progress"
        )
        return [progress, *super().get_urls()]

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The list with the counts of all its rows, asked for at once."""
        shown = super().get_changelist_instance(request)
        running = [one.pk for one in shown.result_list if not one.final_counts]
        counts = DeviceDeployment.objects.filter(deployment__in=running).counts() if running else {}
        for one in shown.result_list:
            one.shown_counts = one.final_counts or counts.get(one.pk, {})
        return shown

    def buttons_for(self, obj: Deployment) -> dict[str, str]:
        return {"cancel": "Cancel this deployment"} if obj.state == DeploymentState.RUNNING else {}

    def has_change_permission(self, request: HttpRequest, obj: Deployment | None = None) -> bool:
        return obj is None and super().has_change_permission(request, obj)

    def get_fields(self, request: HttpRequest, obj: Deployment | None = None) -> Any:
        return self.fields if obj else ("bundle", "groups", "note")

    def get_readonly_fields(self, request: HttpRequest, obj: Deployment | None = None) -> Any:
        return self.readonly_fields if obj else ()

    def get_form(self, request: HttpRequest, obj: Deployment | None = None, change: bool = False, **kwargs: Any) -> Any:
        if obj is not None:
            return super().get_form(request, obj, change, **kwargs)
        return type("DeploymentForm", (DeploymentForm,), {"actor": actor_of(request), "user": request.user})

    def save_form(self, request: HttpRequest, form: Any, change: bool) -> Deployment:
        return form.started

    def save_model(self, request: HttpRequest, obj: Deployment, form: Any, change: bool) -> None:
        """Nothing: the form has started it."""

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Nothing: its rows are made where it is started."""

    def response_add(self, request: HttpRequest, obj: Deployment, *args: Any, **kwargs: Any) -> HttpResponse:
        self.message_user(request, f"{obj.bundle} is being deployed.", messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:deployments_deployment_change", args=[obj.pk]))

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> HttpResponse:
        more = dict(kwargs.pop("extra_context", None) or {})
        deployment = self.get_object(request, object_id)
        if deployment is not None:
            rows = DeviceDeployment.objects.filter(deployment=deployment).with_device_names()
            more |= {
                "bars": bars_of(deployment),
                "results": rows.order_by(FAILURES_FIRST, "-state_changed_at")[:RESULTS_SHOWN],
                "results_shown": RESULTS_SHOWN,
                "events": Event.objects.filter(deployment_id=deployment.pk)[:HISTORY_SHOWN],
                "progress_url": reverse("admin:deployment-progress", args=[deployment.pk]),
                "is_running": deployment.finished_at is None,
            }
        return super().change_view(request, object_id, *args, extra_context=more, **kwargs)

    def progress(self, request: HttpRequest, deployment_id: Any) -> JsonResponse:
        """What the page asks for while a deployment runs."""
        deployment = self.get_object(request, str(deployment_id))
        if deployment is None or not self.has_view_permission(request, deployment):
            return JsonResponse({}, status=404)
        return JsonResponse({"bars": bars_of(deployment), "is_running": deployment.finished_at is None})

    @display(description="state", ordering="state", label=STATE_COLOURS)
    def shown_state(self, deployment: Deployment) -> str:
        return deployment.state

    @display(description="bundle", ordering="bundle__name")
    def shown_bundle(self, deployment: Deployment) -> str:
        return str(deployment.bundle)

    @display(description="devices")
    def shown_progress(self, deployment: Deployment) -> str:
        counts: dict[str, int] = getattr(deployment, "shown_counts", {})
        bad = sum(counts.get(state, 0) for state in UNSUCCESSFUL)
        said = f"{counts.get('succeeded', 0)} of {sum(counts.values())} succeeded"
        return f"{said}, {bad} did not" if bad else said

    @display(description="time for each device")
    def shown_deadline(self, deployment: Deployment) -> str:
        return duration(deployment.deadline_seconds)

    @display(description="left out")
    def shown_skipped(self, deployment: Deployment) -> str:
        said = {"not_accepted": "not accepted", "wrong_device_type": "of another device type"}
        left_out = [f"{count} {said.get(why, why)}" for why, count in deployment.skipped.items() if count]
        return ", ".join(left_out) or EMPTY

    @admin.action(description="Cancel", permissions=["change"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Deployment]) -> HttpResponse | None:
        if not is_confirmed(request):
            return self.ask(
                request, queryset, action="cancel", title="Cancel deployments", is_final=True,
                consequence="Devices that wait get nothing. Devices at work stop, unless they are past the point of no"
                " return: those finish, or go back by themselves.",
            )  # fmt: skip
        self.attempt(request, queryset, lambda one: one.cancel(actor_of(request)), "Cancelled")
        return None


def bars_of(deployment: Deployment) -> list[dict[str, Any]]:
    """The bars of one deployment: as it ended, or counted now."""
    rows = DeviceDeployment.objects.filter(deployment=deployment)
    return bars(deployment.final_counts or rows.counts().get(deployment.pk, {}))
