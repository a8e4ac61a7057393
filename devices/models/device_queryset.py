"""Sets of devices: by liveness and health, with their counts, and decisions about all of them."""

from typing import TYPE_CHECKING

from django.db import models, transaction
from django.db.models import Count, F, Func, Q
from django.db.models.functions import Greatest, Now

from devices.models.command import Command
from devices.models.device_state import DECISION_RULES, Decision, DeviceState
from devices.models.health import Health
from foundation.events.models import Event
from foundation.state_machine import StatefulQuerySet

if TYPE_CHECKING:
    from devices.models.device import Device  # noqa: F401 — only named in a string below

# A device is offline after this many missed intervals, and never earlier than the minimum.
MISSED_INTERVALS = 3
OFFLINE_MINIMUM_SECONDS = 10
# The health that devices report, best first.
REPORTED_HEALTH = (Health.HEALTHY, Health.RESTARTING, Health.UNHEALTHY)


class DeviceQuerySet(StatefulQuerySet["Device"]):
    def accepted(self) -> "DeviceQuerySet":
        return self.filter(state=DeviceState.ACCEPTED)

    def pending(self) -> "DeviceQuerySet":
        return self.filter(state=DeviceState.PENDING)

    def decommissioned(self) -> "DeviceQuerySet":
        return self.filter(state=DeviceState.DECOMMISSIONED)

    def in_service(self) -> "DeviceQuerySet":
        """Pending and accepted devices."""
        return self.exclude(state=DeviceState.DECOMMISSIONED)

    def in_statistics(self) -> "DeviceQuerySet":
        """The devices that the fleet's statistics count: all except test devices."""
        return self.filter(is_test=False)

    def online(self) -> "DeviceQuerySet":
        """Accepted, with a heartbeat within three of its group's intervals."""
        return self.accepted().filter(last_heartbeat_at__gt=Now() - _offline_after())

    def offline(self) -> "DeviceQuerySet":
        """Accepted, and not online: no recent heartbeat, or none ever."""
        recent = Q(last_heartbeat_at__gt=Now() - _offline_after())
        return self.accepted().filter(~recent | Q(last_heartbeat_at__isnull=True))

    def with_health(self, health: str) -> "DeviceQuerySet":
        """Devices of one health. `unknown` are those that are pending, or accepted and not online."""
        if health == Health.UNKNOWN:
            return self.pending() | self.offline() | self.online().filter(reported_health="")
        return self.online().filter(reported_health=health)

    def with_unnoted_health(self) -> "DeviceQuerySet":
        """Accepted devices whose health changed after the last event about it."""
        return self.accepted().filter(~Q(reported_health=F("noted_health")))

    def newly_offline(self) -> "DeviceQuerySet":
        """Offline after at least one heartbeat, with no event about it yet."""
        return self.offline().filter(last_heartbeat_at__isnull=False, offline_noted_at__isnull=True)

    def returned(self) -> "DeviceQuerySet":
        """Online again after an event said that the device went offline."""
        return self.online().filter(offline_noted_at__isnull=False)

    def counts(self) -> dict[str, int]:
        """Return how many devices are online, offline, pending and decommissioned."""
        return {
            "online": self.online().count(),
            "offline": self.offline().count(),
            "pending": self.pending().count(),
            "decommissioned": self.decommissioned().count(),
        }

    def health_counts(self) -> dict[str, int]:
        """Return how many online devices have which reported health."""
        counts = dict(self.online().order_by().values_list("reported_health").annotate(Count("pk")))
        return {health.value: counts.get(health.value, 0) for health in REPORTED_HEALTH}

    def matching(
        self,
        *,
        state: str = "",
        group: str = "",
        online: bool | None = None,
        health: str = "",
        tag: str = "",
    ) -> "DeviceQuerySet":
        """Apply the operators' filters; an empty one does not filter. For queries, see `devices.queries`."""
        devices = self
        if online is not None:
            devices = devices.online() if online else devices.offline()
        if health:
            devices = devices.with_health(health)
        if state:
            devices = devices.filter(state=state)
        if group:
            devices = devices.filter(group__name=group)
        if tag:
            devices = devices.filter(tags__contains=[tag])
        return devices

    def decide(self, decision: Decision, actor: str) -> int:
        """Carry out a decision on those of these devices whose state allows it. Return how many changed.

        Rows are locked in the order of their ids, so that two decisions cannot deadlock. Commands of devices that are
        put out of service are withdrawn. Each change is an event.
        """
        rule = DECISION_RULES[decision]
        with transaction.atomic():
            devices = list(self.in_states(*rule.sources).order_by("pk").select_for_update())
            ids = [device.pk for device in devices]
            self.model.objects.filter(pk__in=ids).transition_to(rule.target, only_from=rule.sources)
            if rule.target == DeviceState.DECOMMISSIONED:
                Command.objects.filter(device_id__in=ids).withdraw()
            Event.objects.bulk_create(
                Event(
                    kind=f"device.{rule.participle}",
                    message=f"Device {device} was {rule.participle}.",
                    actor=actor,
                    device_id=device.pk,
                )
                for device in devices
            )
        return len(devices)


def _offline_after() -> Func:
    """Return SQL for the silence after which a device is offline; the same as `Device.offline_after`."""
    seconds = Greatest(F("group__interval_seconds") * MISSED_INTERVALS, OFFLINE_MINIMUM_SECONDS)
    template = "make_interval(secs => %(expressions)s)"
    return Func(seconds, template=template, output_field=models.DurationField())
