"""Values that occur in the fleet, for completion and filters. What they read is limited, however large the fleet is."""

from django.db.models import F, Func

from devices.models import Device, Group

MAX_VALUES = 20
# Tags and device types are those of so many devices, the newest ones.
NEWEST_DEVICES = 2000


def complete_groups(prefix: str) -> list[str]:
    groups = Group.objects.static().filter(name__istartswith=prefix).order_by("name")
    return list(groups.values_list("name", flat=True)[:MAX_VALUES])


def complete_tags(prefix: str) -> list[str]:
    return _beginning(newest_tags(), prefix)


def complete_types(prefix: str) -> list[str]:
    newest = Device.objects.order_by("-registered_at").values_list("device_type", flat=True)
    return _beginning(set(newest[:NEWEST_DEVICES]), prefix)


def newest_tags() -> set[str]:
    """Return the tags of the newest devices."""
    newest = Device.objects.order_by("-registered_at")[:NEWEST_DEVICES]
    tags = Device.objects.filter(pk__in=newest.values("pk")).annotate(tag=Func(F("tags"), function="unnest"))
    return set(tags.order_by().values_list("tag", flat=True).distinct())


def _beginning(values: set[str], prefix: str) -> list[str]:
    return sorted(value for value in values if value and value.lower().startswith(prefix.lower()))[:MAX_VALUES]
