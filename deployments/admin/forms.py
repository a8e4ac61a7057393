"""The forms of deployments in the admin."""

from dataclasses import replace
from typing import Any

from django import forms
from unfold.widgets import (
    UnfoldAdminSelectMultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminSplitDateTimeWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from bundles.models import Bundle
from deployments.definition import Definition
from deployments.models import Deployment
from deployments.models.deployment import DEFAULT_MAX_ATTEMPTS, DEFAULT_PRIORITY
from deployments.phases.control import Resumption
from deployments.phases.definition import PhaseDefinition, check_phases, parse_sizes
from deployments.phases.thresholds import DEFAULT_ERROR_PERCENT, DEFAULT_MIN_SAMPLE
from deployments.retries import MAX_ATTEMPTS
from deployments.schedule import check_times
from deployments.states import FailureAction
from devices.models import Group
from devices.queries.filtering import condition_of, explanation
from foundation.errors import BadRequest
from foundation.queries.lexer import MAX_QUERY_SIZE

MAX_SOAK_MINUTES = 365 * 24 * 60


class QueryField(forms.CharField):
    """A query for devices; it may be empty."""

    def __init__(self, help_text: str) -> None:
        super().__init__(
            max_length=MAX_QUERY_SIZE, required=False, widget=UnfoldAdminTextInputWidget, help_text=help_text
        )

    def clean(self, value: Any) -> str:
        query: str = super().clean(value)
        if query:
            try:
                condition_of(query)
            except BadRequest as error:
                raise forms.ValidationError(explanation(error)) from None
        return query


class SizesField(forms.CharField):
    """The sizes of the phases, separated by commas. The value is a list of `PhaseDefinition`."""

    def __init__(self, help_text: str) -> None:
        super().__init__(max_length=200, required=False, widget=UnfoldAdminTextInputWidget, help_text=help_text)

    def clean(self, value: Any) -> Any:
        try:
            phases = parse_sizes(super().clean(value))
            check_phases(phases)
        except BadRequest as error:
            raise forms.ValidationError(error.message) from None
        return phases


class DeploymentForm(forms.ModelForm):  # type: ignore[type-arg]
    """Which bundle to deploy, to which groups and to the matches of which query.

    The list of devices has an action for single devices.
    """

    bundle = forms.ModelChoiceField(Bundle.objects.none(), widget=UnfoldAdminSelectWidget)
    groups = forms.ModelMultipleChoiceField(Group.objects.all(), required=False, widget=UnfoldAdminSelectMultipleWidget)
    query = QueryField(help_text="Further devices, such as: runs.vad < 1.4 and attr.board = r5")
    exclude = QueryField(help_text="Devices to leave out, such as: tag = canary")
    phases = SizesField(help_text="Cumulative, such as: 1%, 25%, 100%. Empty: all devices at once.")
    soak_minutes = forms.IntegerField(
        min_value=0,
        max_value=MAX_SOAK_MINUTES,
        required=False,
        label="Soak",
        widget=UnfoldAdminTextInputWidget,
        help_text="Minutes for which the devices of a phase are observed before the next one begins.",
    )
    manual_gate = forms.BooleanField(
        required=False, label="Wait for me after each phase", widget=UnfoldBooleanSwitchWidget
    )
    test_canaries = forms.BooleanField(
        required=False, label="Selected test devices first", widget=UnfoldBooleanSwitchWidget
    )
    on_failure = forms.ChoiceField(
        choices=FailureAction.choices,
        initial=FailureAction.PAUSE,
        required=False,
        label="If too many devices fail",
        widget=UnfoldAdminSelectWidget,
        help_text=f"More than {DEFAULT_ERROR_PERCENT} % of a phase, counted from {DEFAULT_MIN_SAMPLE} devices on.",
    )
    start_at = forms.SplitDateTimeField(
        required=False, label="Start", widget=UnfoldAdminSplitDateTimeWidget, help_text="Empty: at once."
    )
    expires_at = forms.SplitDateTimeField(
        required=False, label="End", widget=UnfoldAdminSplitDateTimeWidget, help_text="Nothing is offered afterwards."
    )
    max_in_flight = forms.IntegerField(
        min_value=1,
        required=False,
        label="Devices at once",
        widget=UnfoldAdminTextInputWidget,
        help_text="How many devices are at work at the same time. Empty: no limit.",
    )
    devices_per_minute = forms.IntegerField(
        min_value=1,
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="How many devices get an offer per minute. Empty: no limit.",
    )
    priority = forms.IntegerField(
        min_value=0,
        max_value=100,
        initial=DEFAULT_PRIORITY,
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text="From 0 to 100. Among deployments of a product, the higher one comes first, then the newer one.",
    )
    max_attempts = forms.IntegerField(
        min_value=1,
        max_value=MAX_ATTEMPTS,
        initial=DEFAULT_MAX_ATTEMPTS,
        required=False,
        label="Attempts",
        widget=UnfoldAdminTextInputWidget,
        help_text="How many attempts a device has if it fails for a temporary reason, such as a broken download.",
    )
    note = forms.CharField(max_length=500, required=False, widget=UnfoldAdminTextInputWidget)

    class Meta:
        model = Deployment
        fields = ["bundle", "note"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["bundle"].queryset = Bundle.objects.ready().defer("manifest")  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        try:
            check_times(cleaned.get("start_at"), cleaned.get("expires_at"))
        except BadRequest as error:
            self.add_error("expires_at", error.message)
        if not cleaned.get("groups") and not cleaned.get("query") and "query" not in self.errors:
            raise forms.ValidationError("Choose at least one group, or give a query.")
        return cleaned

    def phase_definitions(self) -> list[PhaseDefinition]:
        """Return the phases that the valid form describes. A gate is between two phases, never after the last one."""
        soak_seconds = 60 * (self.cleaned_data["soak_minutes"] or 0)
        sizes: list[PhaseDefinition] = self.cleaned_data["phases"]
        gate = self.cleaned_data["manual_gate"]
        return [replace(each, soak_seconds=soak_seconds, manual_gate=gate and not each.is_last) for each in sizes]

    def definition(self) -> Definition:
        """Return what the valid form describes."""
        return Definition(
            self.cleaned_data["bundle"],
            groups=[group.name for group in self.cleaned_data["groups"]],
            query=self.cleaned_data["query"],
            exclude=self.cleaned_data["exclude"],
            phases=self.phase_definitions(),
            test_canaries=self.cleaned_data["test_canaries"],
            on_failure=self.cleaned_data["on_failure"] or FailureAction.PAUSE,
            start_at=self.cleaned_data["start_at"],
            expires_at=self.cleaned_data["expires_at"],
            max_in_flight=self.cleaned_data["max_in_flight"],
            devices_per_minute=self.cleaned_data["devices_per_minute"],
            priority=DEFAULT_PRIORITY if self.cleaned_data["priority"] is None else self.cleaned_data["priority"],
            max_attempts=self.cleaned_data["max_attempts"] or DEFAULT_MAX_ATTEMPTS,
            note=self.cleaned_data["note"],
        )


class ResumeForm(forms.Form):
    """How a paused deployment continues, and why."""

    decision = forms.ChoiceField(
        choices=[
            ("", "Continue (after a trip, choose one of the others)"),
            ("accept_failures", "Accept the failures so far: they no longer count"),
            ("skip_phase", "Skip this phase: the next one begins"),
            ("error_threshold_percent", "Raise the error threshold to …"),
            ("success_threshold_percent", "Lower the success threshold to …"),
        ],
        required=False,
        widget=UnfoldAdminSelectWidget,
    )
    percent = forms.IntegerField(
        min_value=0, max_value=100, required=False, label="Threshold in %", widget=UnfoldAdminTextInputWidget
    )
    reason = forms.CharField(max_length=500, required=False, widget=UnfoldAdminTextInputWidget)

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if str(cleaned.get("decision")).endswith("_percent") and cleaned.get("percent") is None:
            self.add_error("percent", "Enter the new threshold.")
        if cleaned.get("decision") and not cleaned.get("reason"):
            self.add_error("reason", "Enter the reason for this decision.")
        return cleaned

    def resumption(self) -> Resumption:
        """Return what the valid form describes."""
        decision, reason = self.cleaned_data["decision"], self.cleaned_data["reason"]
        if decision.endswith("_percent"):
            return Resumption(reason, **{decision: self.cleaned_data["percent"]})
        return Resumption(reason, **({decision: True} if decision else {}))
