"""Limits: how many devices of a deployment are at work at once, and how many offers it makes per minute.

A device is at work from the offer until its device deployment ends. A phase admits devices; limits decide when an
admitted device is offered the bundle. A limited deployment still reaches all its devices, only later. The limits also
apply to devices that come back online late.

- `max_in_flight`: how many devices are at work at once.
- `max_in_flight_per_tag`: how many devices with the same tag are at work at once. It applies to each tag that begins
  with `limit_tag`: with `site:` and 2, at most two devices of each site. Devices without such a tag are not limited.
- `min_available_percent`: the percentage of each group's online devices that must not be at work in any deployment. One
  device of a group may always be at work, because otherwise a small group would never get the bundle.
- `devices_per_minute`: how many devices are offered the bundle per minute. Unused offers accumulate for at most one
  minute.

If several limits are set, all of them apply. Reachable devices come first. A device that has been silent for
`accept_seconds` since its offer gives its place to a reachable one, and waits again: otherwise a few offline devices
would keep all others waiting until their deadlines.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import BooleanField, Case, Count, DurationField, F, Func, Q, Value, When
from django.db.models.functions import Greatest

from deployments.models import Deployment, DeviceDeployment, DeviceDeploymentQuerySet
from deployments.phases.admission import REACHABLE_SECONDS
from devices.models import Device
from foundation.errors import BadRequest

# How many devices are offered the bundle in one transaction.
BATCH = 1000
IS_LIMITED = (
    Q(max_in_flight__isnull=False)
    | Q(max_in_flight_per_tag__isnull=False)
    | Q(min_available_percent__isnull=False)
    | Q(devices_per_minute__isnull=False)
)
MINUTE = timedelta(minutes=1)


def check_limits(limit_tag: str, max_in_flight_per_tag: int | None) -> None:
    """Raise `BadRequest` (`bad_limits`) if only one of the two is given."""
    if bool(limit_tag) != (max_in_flight_per_tag is not None):
        raise BadRequest("bad_limits", "Give `limit_tag` and `max_in_flight_per_tag` together, or neither.")


def is_limited(deployment: Deployment) -> bool:
    limits = (
        deployment.max_in_flight,
        deployment.max_in_flight_per_tag,
        deployment.min_available_percent,
        deployment.devices_per_minute,
    )
    return any(limit is not None for limit in limits)


def describe_limits(deployment: Deployment) -> str:
    """Describe the limits in words, such as `5 devices at once, 2 for each site:`."""
    descriptions = {
        "{} devices at once": deployment.max_in_flight,
        f"{{}} for each {deployment.limit_tag}": deployment.max_in_flight_per_tag,
        "{} % of each group stay available": deployment.min_available_percent,
        "{} offers per minute": deployment.devices_per_minute,
    }
    return ", ".join(text.format(limit) for text, limit in descriptions.items() if limit is not None)


def choose(deployment: Deployment, candidates: DeviceDeploymentQuerySet, now: datetime) -> list[UUID]:
    """Return the ids of the candidates that the limits allow to be offered now: reachable devices first, by rank.

    The candidates are the deployment's rows that only a limit can keep from being offered. The caller holds the
    deployment's lock.
    """
    size = min(_free_places(deployment), _unused_offers(deployment, now))
    if size <= 0:
        return []
    places = _Places.of(deployment)
    if places.full_tags:
        candidates = candidates.exclude(device__tags__overlap=sorted(places.full_tags))
    if places.full_groups:
        candidates = candidates.exclude(device__group__in=places.full_groups)
    chosen: list[UUID] = []
    ranked = candidates.order_by(_is_reachable(now).desc(), "rank", "pk").values_list(
        "pk", "device__tags", "device__group_id"
    )
    for row_id, tags, group_id in ranked[:BATCH]:
        if places.reserve(tags, group_id):
            chosen.append(row_id)
        if len(chosen) == size:
            break
    return chosen


def give_way(deployment: Deployment, candidates: DeviceDeploymentQuerySet, now: datetime) -> int:
    """Take back offers of silent devices if the row of a reachable one is among the candidates. Return how many."""
    if not candidates.alias(is_reachable=_is_reachable(now)).filter(is_reachable=True).exists():
        return 0
    latest = now - timedelta(seconds=deployment.accept_seconds)
    is_silent = Q(device__last_heartbeat_at=None) | Q(device__last_heartbeat_at__lt=F("offered_at"))
    silent = DeviceDeployment.objects.filter(is_silent, deployment=deployment, offered_at__lte=latest)
    return DeviceDeployment.objects.filter(pk__in=list(silent.values_list("pk", flat=True))).withdraw_offers()


def _is_reachable(now: datetime) -> Case:
    """Return whether the device of a row was heard from lately, as in `deployments.phases.admission`."""
    seconds = Greatest(F("device__group__interval_seconds") * 3, REACHABLE_SECONDS)
    silence = Func(seconds, template="make_interval(secs => %(expressions)s)", output_field=DurationField())
    is_recent = Q(device__last_heartbeat_at__gte=Value(now) - silence)
    return Case(When(is_recent, then=True), default=False, output_field=BooleanField())


def record_offers(deployment: Deployment, count: int, now: datetime) -> None:
    """Record that this many devices were offered the bundle, for `devices_per_minute`."""
    if deployment.devices_per_minute and count:
        begins_at = max(filter(None, (deployment.paced_until, now)))
        deployment.paced_until = begins_at + count * MINUTE / deployment.devices_per_minute
        Deployment.objects.filter(pk=deployment.pk).update(paced_until=deployment.paced_until)


def _free_places(deployment: Deployment) -> int:
    if deployment.max_in_flight is None:
        return BATCH
    return deployment.max_in_flight - DeviceDeployment.objects.filter(deployment=deployment).active().count()


def _unused_offers(deployment: Deployment, now: datetime) -> int:
    if not deployment.devices_per_minute:
        return BATCH
    unused = MINUTE - (max(filter(None, (deployment.paced_until, now))) - now)
    return int(unused * deployment.devices_per_minute / MINUTE + 1e-6)


@dataclass(slots=True)
class _Places:
    """The places in use for each tag, and those left in each group.

    A tag that is not listed has no device at work. A group that is not listed has no limit, or no device that is online
    or at work.
    """

    prefix: str
    per_tag: int | None
    used_by_tag: Counter[str]
    left_in_group: dict[UUID, int] = field(default_factory=dict)

    @classmethod
    def of(cls, deployment: Deployment) -> "_Places":
        used: Counter[str] = Counter()
        if deployment.max_in_flight_per_tag is not None:
            active = DeviceDeployment.objects.filter(deployment=deployment).active()
            for tags in active.values_list("device__tags", flat=True):
                used.update(_limited_tags(deployment.limit_tag, tags))
        groups = {} if deployment.min_available_percent is None else _places_in_groups(deployment.min_available_percent)
        return cls(deployment.limit_tag, deployment.max_in_flight_per_tag, used, groups)

    @property
    def full_tags(self) -> set[str]:
        return {tag for tag, count in self.used_by_tag.items() if self.per_tag is not None and count >= self.per_tag}

    @property
    def full_groups(self) -> list[UUID]:
        return [group_id for group_id, left in self.left_in_group.items() if left <= 0]

    def reserve(self, tags: Collection[str], group_id: UUID) -> bool:
        """Reserve a place for a device with these tags. Return False if there is none."""
        limited = _limited_tags(self.prefix, tags) if self.per_tag is not None else []
        if any(self.used_by_tag[tag] >= (self.per_tag or 0) for tag in limited):
            return False
        if self.left_in_group.get(group_id, 1) <= 0:
            return False
        self.used_by_tag.update(limited)
        if group_id in self.left_in_group:
            self.left_in_group[group_id] -= 1
        return True


def _limited_tags(prefix: str, tags: Collection[str]) -> list[str]:
    return [tag for tag in tags if tag.startswith(prefix)]


def _places_in_groups(min_available_percent: int) -> dict[UUID, int]:
    """Return how many more devices of each group may be at work. At least one device of each group may always be."""
    online = dict(Device.objects.online().order_by().values_list("group").annotate(Count("pk")))
    active = DeviceDeployment.objects.active().order_by().values_list("device__group")
    busy = dict(active.annotate(Count("device", distinct=True)))
    return {
        group_id: max(1, online.get(group_id, 0) * (100 - min_available_percent) // 100) - busy.get(group_id, 0)
        for group_id in online.keys() | busy.keys()
    }
