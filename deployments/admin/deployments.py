"""Deployments in the admin: operators start, follow and cancel them. What happened is never edited."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from django.contrib import admin, messages
from django.db.models import Case, QuerySet, When
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from unfold.decorators import display

from deployments.admin.actions import CANCEL, PAUSE, PROMOTE, REPEAT, RETRY, ROLL_BACK
from deployments.admin.forms import DeploymentForm, ResumeForm
from deployments.admin.previews import preview_context
from deployments.definition import start
from deployments.limits import describe_limits
from deployments.models import Deployment, DeploymentState, DeviceDeployment, DeviceDeploymentState, Preview
from deployments.models.device_deployment_queryset import IS_UNSUCCESSFUL
from deployments.phases.control import resume_deployment
from deployments.phases.narration import PhaseLine, describe
from deployments.previews.counting import start_preview
from deployments.progress import UNSUCCESSFUL_RESULTS, Segment, counts_of, outcome_of, refresh_observation, segments
from deployments.states import FailureAction
from deployments.waiting import waits_of
from foundation.adminsite.base import OperatorAdmin, actor_of, is_confirmed
from foundation.errors import ApiError
from foundation.events.models import Event
from foundation.formatting import EMPTY, duration

STATE_COLOURS = {
    "planning": "info",
    "scheduled": "info",
    "running": "info",
    "paused": "warning",
    "rolling back": "warning",
    "rolled back": "warning",
    "succeeded": "success",
    "incomplete": "danger",
    "cancelled": "warning",
    "superseded": "warning",
    "expired": "warning",
    "no devices": "danger",
    "bundle withdrawn": "warning",
}
RESULTS_SHOWN = 100
HISTORY_SHOWN = 15
FAILURES_FIRST = Case(When(IS_UNSUCCESSFUL, then=0), default=1)


@admin.register(Deployment)
class DeploymentAdmin(OperatorAdmin):
    offered_permissions = ("view", "add", "change")
    list_display = ("shown_bundle", "shown_state", "shown_progress", "note", "created_by", "created_at", "finished_at")
    list_select_related = ("bundle", "created_by")
    list_filter = ("state", "bundle__name")
    search_fields = ("bundle__name", "bundle__version", "note", "id")
    actions = (PAUSE, "resume", PROMOTE, RETRY, REPEAT, ROLL_BACK, CANCEL)
    readonly_fields = (
        "bundle", "shown_state", "note", "shown_deadline", "shown_observation", "shown_failure_action", "start_at",
        "expires_at", "shown_limits", "priority", "max_attempts", "shown_skipped",
        "created_by", "created_at", "cancelled_at", "finished_at",
    )  # fmt: skip
    fields = readonly_fields
    add_fields = (
        "bundle", "groups", "query", "exclude", "phases", "test_canaries", "soak_minutes", "manual_gate", "on_failure",
        "start_at", "expires_at", "max_in_flight", "devices_per_minute", "priority", "max_attempts", "note",
    )  # fmt: skip
    change_form_before_template = "deployments/deployment_progress.html"
    change_form_after_template = "deployments/deployment_results.html"
    add_lead = (
        "Every accepted device of these groups, or that matches the query, downloads the bundle, installs it and checks"
        " its health. If the check fails, the device rolls back to its previous version. To choose single devices, use"
        " the list of devices."
    )
    add_button = "Deploy"
    empty_text = "No deployments yet. A deployment needs a ready bundle and accepted devices."

    def get_queryset(self, request: HttpRequest) -> QuerySet[Deployment]:
        return super().get_queryset(request).defer("bundle__manifest")

    def get_urls(self) -> list[URLPattern]:
        progress = path(
            "<uuid:deployment_id>/progress", self.admin_site.admin_view(self.progress), name="deployment-progress"
        )
        preview = path("preview/<uuid:preview_id>", self.admin_site.admin_view(self.preview), name="deployment-preview")
        return [progress, preview, *super().get_urls()]

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The list, with the counts of all its rows from one query."""
        changelist = super().get_changelist_instance(request)
        counts = counts_of(changelist.result_list)
        for deployment in changelist.result_list:
            deployment.shown_counts = counts[deployment.pk]
        return changelist

    def has_change_permission(self, request: HttpRequest, obj: Deployment | None = None) -> bool:
        return obj is None and super().has_change_permission(request, obj)

    def get_fields(self, request: HttpRequest, obj: Deployment | None = None) -> Any:
        return self.fields if obj else self.add_fields

    def get_readonly_fields(self, request: HttpRequest, obj: Deployment | None = None) -> Any:
        return self.readonly_fields if obj else ()

    def get_form(self, request: HttpRequest, obj: Deployment | None = None, change: bool = False, **kwargs: Any) -> Any:
        return super().get_form(request, obj, change, **kwargs) if obj else DeploymentForm

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None) -> Any:
        """Ask for confirmation before a valid form starts a deployment, and show how many devices it selects."""
        if request.method == "POST" and not is_confirmed(request) and self.has_add_permission(request):
            form = DeploymentForm(request.POST)
            if form.is_valid():
                return self.ask_to_start(request, form)
        return super().add_view(request, form_url, extra_context)

    def ask_to_start(self, request: HttpRequest, form: DeploymentForm) -> HttpResponse:
        context = {
            **self.admin_site.each_context(request),
            "title": f"Deploy {form.cleaned_data['bundle']}",
            "groups": form.cleaned_data["groups"],
            "query": form.cleaned_data["query"],
            "exclude": form.cleaned_data["exclude"],
            "form": form,
            "return_url": request.get_full_path(),
            "opts": self.opts,
        }
        try:
            preview = start_preview(form.definition())
        except ApiError as error:
            context["problem"] = error.message
        else:
            context |= preview_context(preview)
            context["preview_url"] = reverse("admin:deployment-preview", args=[preview.pk])
        return TemplateResponse(request, "deployments/confirm_start.html", context)

    def preview(self, request: HttpRequest, preview_id: Any) -> HttpResponse:
        """What the confirmation page polls until all devices are counted."""
        preview = Preview.objects.select_related("bundle").defer("bundle__manifest").filter(pk=preview_id).first()
        if preview is None or not self.has_add_permission(request):
            return HttpResponse(status=404)
        response = TemplateResponse(request, "deployments/preview.html", preview_context(preview))
        response["X-Preview-State"] = preview.state
        return response

    def buttons_for(self, obj: Deployment) -> dict[str, str]:
        resume = {"resume": "Resume"} if obj.state == DeploymentState.PAUSED and not obj.finished_at else {}
        return resume | super().buttons_for(obj)

    @admin.action(description="Resume", permissions=["change"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Deployment]) -> HttpResponse | None:
        form = ResumeForm(request.POST if is_confirmed(request) else None)
        if not is_confirmed(request) or not form.is_valid():
            return self.ask(
                request, queryset, action="resume", title="Resume deployments", form=form,
                consequence="Devices are offered the bundle again. If a phase tripped, decide what happens to its"
                " failures: otherwise it would trip again.",
            )  # fmt: skip
        resumption = form.resumption()
        self.attempt(
            request,
            queryset,
            lambda deployment: resume_deployment(deployment, resumption, actor=actor_of(request)),
            "Resumed",
        )
        return None

    def save_model(self, request: HttpRequest, obj: Deployment, form: Any, change: bool) -> None:
        user = request.user if request.user.is_authenticated else None
        obj.pk = start(form.definition(), actor=actor_of(request), created_by=user).pk
        obj.refresh_from_db()

    def response_add(self, request: HttpRequest, obj: Deployment, *args: Any, **kwargs: Any) -> HttpResponse:
        self.message_user(request, f"The deployment of {obj.bundle} was started.", messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:deployments_deployment_change", args=[obj.pk]))

    def change_view(self, request: HttpRequest, object_id: str, *args: Any, **kwargs: Any) -> HttpResponse:
        context = dict(kwargs.pop("extra_context", None) or {})
        deployment = self.get_object(request, object_id)
        if deployment is not None:
            rows = DeviceDeployment.objects.filter(deployment=deployment).with_device_names()
            context |= {
                **asdict(Progress.of(deployment)),
                "results": with_waits(rows.order_by(FAILURES_FIRST, "-state_changed_at")[:RESULTS_SHOWN]),
                "results_shown": RESULTS_SHOWN,
                "events": Event.objects.filter(deployment_id=deployment.pk)[:HISTORY_SHOWN],
                "progress_url": reverse("admin:deployment-progress", args=[deployment.pk]),
                "is_planning": deployment.state == DeploymentState.PLANNING,
            }
        return super().change_view(request, object_id, *args, extra_context=context, **kwargs)

    def progress(self, request: HttpRequest, deployment_id: Any) -> JsonResponse:
        """What the page polls while a deployment runs."""
        deployment = self.get_object(request, str(deployment_id))
        if deployment is None or not self.has_view_permission(request, deployment):
            return JsonResponse({}, status=404)
        return JsonResponse(asdict(Progress.of(deployment)))

    @display(description="state", ordering="state", label=STATE_COLOURS)
    def shown_state(self, deployment: Deployment) -> str:
        """The outcome if there is one: "finished" alone does not say whether the devices run the bundle."""
        if deployment.reason_code:
            return deployment.reason_code.replace("_", " ")
        counts = getattr(deployment, "shown_counts", None) or counts_of([deployment])[deployment.pk]
        return (outcome_of(deployment, counts) or deployment.state).replace("_", " ")

    @display(description="bundle", ordering="bundle__name")
    def shown_bundle(self, deployment: Deployment) -> str:
        return deployment.title

    @display(description="devices")
    def shown_progress(self, deployment: Deployment) -> str:
        counts: dict[str, int] = getattr(deployment, "shown_counts", {})
        unsuccessful = sum(counts.get(result, 0) for result in UNSUCCESSFUL_RESULTS)
        summary = f"{counts.get(DeviceDeploymentState.SUCCEEDED, 0)} of {sum(counts.values())} succeeded"
        return f"{summary}, {unsuccessful} did not" if unsuccessful else summary

    @display(description="time for each device")
    def shown_deadline(self, deployment: Deployment) -> str:
        return duration(deployment.deadline_seconds)

    @display(description="observation after a success")
    def shown_observation(self, deployment: Deployment) -> str:
        return duration(deployment.observation_seconds)

    @display(description="if too many devices fail")
    def shown_failure_action(self, deployment: Deployment) -> str:
        return FailureAction(deployment.on_failure).label

    @display(description="limits")
    def shown_limits(self, deployment: Deployment) -> str:
        return describe_limits(deployment) or EMPTY

    @display(description="skipped")
    def shown_skipped(self, deployment: Deployment) -> str:
        return str(deployment.skipped_counts) or EMPTY


def with_waits(rows: Iterable[DeviceDeployment]) -> list[DeviceDeployment]:
    """Return the rows, each unfinished one with the sentence `shown_wait` that says what it waits for."""
    rows = list(rows)
    waits = waits_of(rows)
    for row in rows:
        row.shown_wait = waits[row.pk].text if row.pk in waits else ""  # type: ignore[attr-defined]
    return rows


@dataclass(frozen=True, slots=True)
class Progress:
    """What the page shows of a deployment and polls. `observing` is how many successes are under observation.

    `state` is the state that the page was loaded with, or its successor: the page is loaded again when it changes.
    """

    segments: list[Segment]
    is_running: bool
    observing: int
    next_step: str
    phases: list[PhaseLine]
    state: str

    @classmethod
    def of(cls, deployment: Deployment) -> "Progress":
        observing = refresh_observation([deployment])[deployment.pk]
        next_step, phases = describe(deployment)
        return cls(
            segments=segments(counts_of([deployment])[deployment.pk]),
            is_running=deployment.finished_at is None,
            observing=observing,
            next_step=next_step,
            phases=phases,
            state=deployment.state,
        )
