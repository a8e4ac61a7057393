"""Dynamic groups: a saved query, whose matches are the group's devices."""

from devices.models import Device, DeviceQuerySet, Group
from devices.queries.filtering import condition_of, filter_devices, limited_time
from foundation.errors import BadRequest


def check_group_query(query: str) -> None:
    """Check the query of a dynamic group. It may name static groups only: `group = NAME` means static membership.

    Raises:
        BadRequest: `invalid_query`, with `position`, `length` and `expected`.
    """
    if not query.strip():
        raise BadRequest("invalid_query", "A dynamic group needs a query.", position=0, length=0, expected=[])
    values = condition_of(query).values_of("group")
    dynamic = set(
        Group.objects.dynamic().filter(name__in={value.text for value in values}).values_list("name", flat=True)
    )
    for value in values:
        if value.text in dynamic:
            message = f"{value.text!a} is a dynamic group. Use its query: a dynamic group cannot contain another one."
            raise BadRequest("invalid_query", message, position=value.position, length=value.length, expected=[])


def devices_of(group: Group, devices: DeviceQuerySet) -> DeviceQuerySet:
    """Return those of the devices that are in a static or dynamic group. Raises `BadRequest` (`invalid_query`)."""
    return filter_devices(devices, group.query) if group.is_dynamic else devices.filter(group=group)


def devices_in_group(devices: DeviceQuerySet, name: str) -> DeviceQuerySet:
    """Return those of the devices that are in the group of this name; none if it does not exist.

    Raises:
        BadRequest: `invalid_query`.
    """
    group = Group.objects.filter(name=name).first()
    return devices_of(group, devices) if group else devices.none()


def device_count(group: Group) -> int | None:
    """Return how many pending and accepted devices a group has; None if counting takes too long."""
    try:
        with limited_time():
            return devices_of(group, Device.objects.in_service()).count()
    except BadRequest:
        return None
