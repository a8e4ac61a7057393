"""Requests of the operators' endpoints."""

from drf_spectacular.utils import OpenApiResponse
from rest_framework import serializers

from bundles.models import Bundle
from deployments.definition import MAX_DEVICES, Definition
from deployments.phases.definition import PhaseDefinition
from deployments.phases.strata import MAX_STRATA
from deployments.retries import MAX_ATTEMPTS
from deployments.states import FailureAction
from foundation.api.serializers import StrictSerializer
from foundation.queries.lexer import MAX_QUERY_SIZE

YEAR_SECONDS = 31_536_000
MAX_OBSERVATION_SECONDS = 30 * 86_400
MAX_GROUPS = 1000
MAX_CANARIES = 1000
MAX_COUNT = 10_000_000


# The errors of a request that describes a deployment.
DEFINITION_ERRORS = {
    400: OpenApiResponse(
        description="nobody_chosen, too_many_devices, unknown_groups, unknown_devices, invalid_query, bad_phases,"
        " bad_strata, bad_times, bad_limits"
    ),
    404: OpenApiResponse(description="unknown_bundle"),
    409: OpenApiResponse(description="bundle_not_ready, no_devices"),
}


class PhaseRequest(StrictSerializer):
    """A phase. `percent` or `count` say how many devices have the bundle at its end; the last phase has neither."""

    percent = serializers.IntegerField(min_value=1, max_value=100, required=False)
    count = serializers.IntegerField(min_value=1, max_value=MAX_COUNT, required=False)
    success_threshold_percent = serializers.IntegerField(
        min_value=0, max_value=100, required=False, help_text="How many of its devices must succeed."
    )
    error_threshold_percent = serializers.IntegerField(
        min_value=0, max_value=100, required=False, help_text="More failures than this trip the phase."
    )
    soak_seconds = serializers.IntegerField(
        min_value=0, max_value=YEAR_SECONDS, required=False,
        help_text="How long its devices are observed before the next phase begins.",
    )  # fmt: skip
    manual_gate = serializers.BooleanField(
        required=False, help_text="Whether an operator decides if the next phase begins."
    )


class DeploymentRequest(StrictSerializer):
    """`bundle` is `name@version`. At least one device or group is required."""

    bundle = serializers.CharField(max_length=127)
    groups = serializers.ListField(child=serializers.CharField(max_length=100), max_length=MAX_GROUPS, required=False)
    devices = serializers.ListField(child=serializers.UUIDField(), max_length=MAX_DEVICES, required=False)
    query = serializers.CharField(
        max_length=MAX_QUERY_SIZE, allow_blank=True, required=False, help_text="Further devices; see docs/queries.md."
    )
    exclude = serializers.CharField(
        max_length=MAX_QUERY_SIZE, allow_blank=True, required=False, help_text="A query for devices to leave out."
    )
    phases = PhaseRequest(many=True, required=False)
    canaries = serializers.ListField(
        child=serializers.UUIDField(), max_length=MAX_CANARIES, required=False,
        help_text="Selected devices that the first phase admits in any case.",
    )  # fmt: skip
    test_canaries = serializers.BooleanField(
        required=False, help_text="Whether all selected test devices are canaries as well."
    )
    strata = serializers.ListField(
        child=serializers.CharField(max_length=80), max_length=MAX_STRATA, required=False,
        help_text="Every phase takes its share of each stratum: `type`, `group`, `running`, `tag:PREFIX`.",
    )  # fmt: skip
    on_failure = serializers.ChoiceField(FailureAction.choices, required=False, help_text="What a trip does.")
    min_sample = serializers.IntegerField(min_value=1, max_value=MAX_COUNT, required=False)
    max_bad = serializers.IntegerField(
        min_value=0, max_value=MAX_COUNT, required=False, allow_null=True,
        help_text="More failures than this, over all phases, trip the deployment.",
    )  # fmt: skip
    accept_seconds = serializers.IntegerField(min_value=10, max_value=YEAR_SECONDS, required=False)
    fill_seconds = serializers.IntegerField(min_value=10, max_value=YEAR_SECONDS, required=False)
    allow_downgrade = serializers.BooleanField(required=False)
    priority = serializers.IntegerField(
        min_value=0, max_value=100, required=False,
        help_text="Which of several deployments of the product comes first. Default: 50.",
    )  # fmt: skip
    max_attempts = serializers.IntegerField(
        min_value=1, max_value=MAX_ATTEMPTS, required=False,
        help_text="How many attempts a device has if it fails for a temporary reason. Default: 3.",
    )  # fmt: skip
    start_at = serializers.DateTimeField(
        required=False, allow_null=True, help_text="Nothing is offered before this time."
    )
    expires_at = serializers.DateTimeField(
        required=False, allow_null=True, help_text="Nothing is offered after this time."
    )
    max_in_flight = serializers.IntegerField(
        min_value=1, max_value=MAX_COUNT, required=False, allow_null=True, help_text="Devices at work at once."
    )
    max_in_flight_per_tag = serializers.IntegerField(
        min_value=1, max_value=MAX_COUNT, required=False, allow_null=True,
        help_text="Devices with the same tag at work at once, for each tag that begins with `limit_tag`.",
    )  # fmt: skip
    limit_tag = serializers.CharField(
        max_length=63, required=False, allow_blank=True, help_text="The beginning of a tag, such as `site:`."
    )
    min_available_percent = serializers.IntegerField(
        min_value=0, max_value=100, required=False, allow_null=True,
        help_text="The percentage of each group's online devices that must not be at work.",
    )  # fmt: skip
    devices_per_minute = serializers.IntegerField(
        min_value=1, max_value=MAX_COUNT, required=False, allow_null=True, help_text="Offers per minute."
    )
    deadline_seconds = serializers.IntegerField(min_value=10, max_value=YEAR_SECONDS, required=False)
    observation_seconds = serializers.IntegerField(
        min_value=0, max_value=MAX_OBSERVATION_SECONDS, required=False,
        help_text="How long a success is observed; it fails late if the device turns unhealthy or rolls back.",
    )  # fmt: skip
    unhealthy_seconds = serializers.IntegerField(
        min_value=0, max_value=MAX_OBSERVATION_SECONDS, required=False,
        help_text="How long the bundle may be unhealthy while it is observed.",
    )  # fmt: skip
    note = serializers.CharField(max_length=500, allow_blank=True, required=False)

    def definition(self) -> Definition:
        """Return what the valid body describes. Raises `NotFound` (`unknown_bundle`)."""
        values = dict(self.validated_data)
        if "phases" in values:
            values["phases"] = [PhaseDefinition(**phase) for phase in values["phases"]]
        return Definition(Bundle.objects.defer("manifest").get_by_label(values.pop("bundle")), **values)


class ChangeRequest(StrictSerializer):
    """What changes in a deployment under way. A field that is missing stays; null removes a limit or a time."""

    start_at = serializers.DateTimeField(required=False, allow_null=True)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)
    priority = serializers.IntegerField(min_value=0, max_value=100, required=False)
    max_attempts = serializers.IntegerField(min_value=1, max_value=MAX_ATTEMPTS, required=False)
    max_in_flight = serializers.IntegerField(min_value=1, max_value=MAX_COUNT, required=False, allow_null=True)
    max_in_flight_per_tag = serializers.IntegerField(min_value=1, max_value=MAX_COUNT, required=False, allow_null=True)
    limit_tag = serializers.CharField(max_length=63, required=False, allow_blank=True)
    min_available_percent = serializers.IntegerField(min_value=0, max_value=100, required=False, allow_null=True)
    devices_per_minute = serializers.IntegerField(min_value=1, max_value=MAX_COUNT, required=False, allow_null=True)
    max_bad = serializers.IntegerField(min_value=0, max_value=MAX_COUNT, required=False, allow_null=True)
    reason = serializers.CharField(max_length=500, allow_blank=True, required=False)


class RetryRequest(StrictSerializer):
    """Which failures are tried again: those with these reason codes, or all."""

    reason_codes = serializers.ListField(
        child=serializers.RegexField(r"^[a-z0-9_]{1,64}\Z"), max_length=50, required=False
    )


class RollbackRequest(StrictSerializer):
    reason = serializers.CharField(max_length=500, allow_blank=True, required=False)


class ResumeRequest(StrictSerializer):
    """How a deployment continues. After a trip, a decision and its `reason` are required."""

    reason = serializers.CharField(max_length=500, allow_blank=True, required=False)
    error_threshold_percent = serializers.IntegerField(min_value=0, max_value=100, required=False)
    success_threshold_percent = serializers.IntegerField(min_value=0, max_value=100, required=False)
    accept_failures = serializers.BooleanField(required=False, help_text="The failures so far no longer count.")
    skip_phase = serializers.BooleanField(required=False, help_text="The next phase begins.")
