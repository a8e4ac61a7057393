"""What an operator asks for: which bundle, on which devices, under which rules.

Starting a deployment records the definition and returns, however many devices it selects. The scheduler then plans it
(`deployments.planning`).
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from uuid import UUID

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction

from bundles.models import Bundle
from deployments.limits import check_limits
from deployments.models import Deployment, Phase, Selection
from deployments.models.deployment import DEFAULT_MAX_ATTEMPTS, DEFAULT_PRIORITY
from deployments.phases.definition import PhaseDefinition, check_phases
from deployments.phases.strata import check_strata
from deployments.phases.thresholds import DEFAULT_MIN_SAMPLE
from deployments.schedule import check_times
from deployments.states import FailureAction
from devices.models import Device, DeviceState, Group
from devices.queries.filtering import condition_of
from foundation.errors import BadRequest, Conflict
from foundation.events.models import record_event

# A deployment to more devices than this selects them by group.
MAX_DEVICES = 10_000
# How many unknown groups or devices an error names.
NAMED_AT_MOST = 20


@dataclass(frozen=True, slots=True)
class Definition:
    """A deployment as an operator describes it.

    The devices are those in `groups` (names), those in `devices` (ids), and those that match `query`, without those
    that match `exclude`.

    The devices go through `phases` in an order that mixes them by `strata`, `canaries` (ids) first, with
    `test_canaries` also all test devices. A device that runs a newer release takes part only with `allow_downgrade`. If
    too many devices of a phase fail, or more than `max_bad` altogether, `on_failure` says what happens.
    `accept_seconds` and `fill_seconds` limit how long a phase waits for a device, and for its devices. See
    docs/deployments.md.

    Among deployments of the product, the one with the higher `priority` (0 to 100) comes first. A device that fails for
    a temporary reason has `max_attempts` attempts in all.

    Nothing is offered before `start_at`, or after `expires_at`. `max_in_flight`, `max_in_flight_per_tag` with
    `limit_tag`, `min_available_percent` and `devices_per_minute` limit how many devices are at work at once, and how
    many get an offer per minute. See `deployments.limits`.

    `deadline_seconds` is how long one device may take; None means the installation's default. A success is observed for
    `observation_seconds`, in which the bundle may be unhealthy for `unhealthy_seconds`.
    """

    bundle: Bundle
    groups: Collection[str] = ()
    devices: Collection[UUID] = ()
    query: str = ""
    exclude: str = ""
    phases: Sequence[PhaseDefinition] = (PhaseDefinition(),)
    canaries: Collection[UUID] = ()
    test_canaries: bool = False
    strata: Sequence[str] = ()
    on_failure: str = FailureAction.PAUSE
    min_sample: int = DEFAULT_MIN_SAMPLE
    max_bad: int | None = None
    accept_seconds: int = 3600
    fill_seconds: int = 86_400
    allow_downgrade: bool = False
    priority: int = DEFAULT_PRIORITY
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    start_at: datetime | None = None
    expires_at: datetime | None = None
    max_in_flight: int | None = None
    max_in_flight_per_tag: int | None = None
    limit_tag: str = ""
    min_available_percent: int | None = None
    devices_per_minute: int | None = None
    deadline_seconds: int | None = None
    observation_seconds: int = 600
    unhealthy_seconds: int = 60
    note: str = ""


def start(definition: Definition, *, actor: str, created_by: User | None = None) -> Deployment:
    """Record a deployment, which the scheduler then plans.

    Raises what `check` raises.
    """
    bundle = definition.bundle
    with transaction.atomic():
        selected = check(definition)
        if definition.deadline_seconds is None:
            deadline_seconds = settings.DEVICE_DEADLINE_SECONDS
        else:
            deadline_seconds = definition.deadline_seconds
        deployment = Deployment.objects.create(
            bundle=bundle,
            note=definition.note,
            created_by=created_by,
            deadline_seconds=deadline_seconds,
            observation_seconds=definition.observation_seconds,
            unhealthy_seconds=definition.unhealthy_seconds,
            accept_seconds=definition.accept_seconds,
            fill_seconds=definition.fill_seconds,
            allow_downgrade=definition.allow_downgrade,
            priority=definition.priority,
            max_attempts=definition.max_attempts,
            start_at=definition.start_at,
            expires_at=definition.expires_at,
            max_in_flight=definition.max_in_flight,
            max_in_flight_per_tag=definition.max_in_flight_per_tag,
            limit_tag=definition.limit_tag,
            min_available_percent=definition.min_available_percent,
            devices_per_minute=definition.devices_per_minute,
            on_failure=definition.on_failure,
            min_sample=definition.min_sample,
            max_bad=definition.max_bad,
            strata=list(definition.strata),
        )
        Phase.objects.bulk_create(
            Phase(deployment=deployment, number=number, **asdict(phase))
            for number, phase in enumerate(definition.phases, start=1)
        )
        Selection.objects.create(deployment=deployment, **asdict(selected))
        record_event(
            "deployment.started",
            f"A deployment of {bundle} was started.",
            actor=actor,
            deployment=deployment.pk,
            bundle=bundle.pk,
        )
    return deployment


@dataclass(frozen=True, slots=True)
class Selected:
    """The fields of `SelectedDevices` that a definition sets."""

    groups: list[UUID]
    group_queries: list[str]
    devices: list[UUID]
    query: str
    exclude: str
    canaries: list[UUID]


def check(definition: Definition) -> Selected:
    """Return which devices a definition selects, after checking all of the definition.

    Raises:
        BadRequest: `nobody_chosen`; `too_many_devices`; `unknown_groups` or `unknown_devices`, with some of those;
            `invalid_query`; `bad_phases`; `bad_strata`; `bad_times`; `bad_limits`.
        Conflict: `bundle_not_ready`; `no_devices` if none of the selected devices is accepted.
    """
    bundle = definition.bundle
    query, exclude = definition.query.strip(), definition.exclude.strip()
    if not definition.groups and not definition.devices and not query:
        raise BadRequest("nobody_chosen", "Name at least one device or group, or give a query.")
    groups, group_queries = _known_groups(definition.groups)
    for text in filter(None, (query, exclude, *group_queries)):
        condition_of(text)
    check_phases(definition.phases)
    check_strata(list(definition.strata))
    check_times(definition.start_at, definition.expires_at)
    check_limits(definition.limit_tag, definition.max_in_flight_per_tag)
    _check_devices(definition.devices)
    _check_devices(definition.canaries)
    canaries = {*definition.canaries, *(_test_devices() if definition.test_canaries else ())}
    if not Bundle.objects.ready().filter(pk=bundle.pk).exists():
        raise Conflict("bundle_not_ready", f"{bundle} is not ready; only ready bundles are deployed.")
    if not query and not group_queries:
        _check_accepted(bundle, groups, definition.devices)
    return Selected(
        groups, group_queries, sorted(set(definition.devices)), query, exclude, canaries=sorted(canaries)
    )  # fmt: skip


def _known_groups(names: Collection[str]) -> tuple[list[UUID], list[str]]:
    """Return the ids of the static groups, and the queries of the dynamic ones. Raises `BadRequest`."""
    groups = list(Group.objects.filter(name__in=names))
    unknown = sorted(set(names) - {group.name for group in groups})[:NAMED_AT_MOST]
    if unknown:
        message = f"There are no groups with these names: {', '.join(unknown)}."
        raise BadRequest("unknown_groups", message, groups=unknown)
    return [group.pk for group in groups if not group.is_dynamic], [group.query for group in groups if group.is_dynamic]


def _check_devices(ids: Collection[UUID]) -> None:
    if len(ids) > MAX_DEVICES:
        raise BadRequest("too_many_devices", f"Name at most {MAX_DEVICES} devices; select more of them by group.")
    known = set(Device.objects.filter(pk__in=ids).values_list("pk", flat=True)) if ids else set()
    unknown = [str(device_id) for device_id in sorted(set(ids) - known)[:NAMED_AT_MOST]]
    if unknown:
        message = f"There are no devices with these ids: {', '.join(unknown)}."
        raise BadRequest("unknown_devices", message, devices=unknown)


def _test_devices() -> list[UUID]:
    """Return the ids of the accepted test devices, selected or not. Raises `BadRequest` (`too_many_devices`)."""
    ids = list(
        Device.objects.accepted().filter(is_test=True).order_by("pk").values_list("pk", flat=True)[: MAX_DEVICES + 1]
    )
    if len(ids) > MAX_DEVICES:
        raise BadRequest("too_many_devices", f"There are more than {MAX_DEVICES} test devices; name the canaries.")
    return ids


def _check_accepted(bundle: Bundle, groups: Collection[UUID], devices: Collection[UUID]) -> None:
    """Refuse a selection without an accepted device. It costs a few look-ups, however large the groups are."""

    def has(state: DeviceState) -> bool:
        in_state = Device.objects.filter(state=state)
        return in_state.filter(group__in=groups).exists() or in_state.filter(pk__in=devices).exists()

    if has(DeviceState.ACCEPTED):
        return
    if has(DeviceState.PENDING):
        reason = "none of the chosen devices is accepted (approve the pending ones)"
    elif has(DeviceState.DECOMMISSIONED):
        reason = "all chosen devices are decommissioned"
    else:
        reason = "the chosen groups are empty"
    raise Conflict("no_devices", f"No device can receive {bundle}: {reason}.")
