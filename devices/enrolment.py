"""Registration: a signed request with an enrolment token turns a key into a device.

1. A key that is registered already gets its device, whatever the token. No use of the token is spent.
2. One conditional UPDATE spends a use of the token.
3. The device is inserted. If another request registered the same key meanwhile, the transaction is rolled back, which
   restores the use, and step 1 applies.
"""

from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.utils import timezone

from devices.models import Device, DeviceState, EnrolmentToken
from foundation.errors import Forbidden
from foundation.events.models import record_event


@dataclass(frozen=True, slots=True)
class Registration:
    """`is_new` is False for a key that was registered before."""

    device: Device
    is_new: bool


class _AlreadyRegistered(Exception):
    """Another request registered the same key meanwhile. Rolls the transaction back, and the token's use with it."""


def register(
    *, token: str, public_key: str, device_type: str, hardware: dict[str, Any], name: str = ""
) -> Registration:
    """Create a device for a key whose holder signed the request. The token decides its group and state.

    Raises:
        Forbidden: `bad_token`, or `decommissioned` for the key of a decommissioned device.
    """
    registration = _existing(public_key)
    if registration is not None:
        return registration
    try:
        with transaction.atomic():
            enrolment_token = EnrolmentToken.objects.use_up(token)
            if enrolment_token is not None:
                device = _insert(enrolment_token, public_key, device_type, hardware, name)
                return Registration(device, is_new=True)
    except _AlreadyRegistered:
        pass
    # Either the token has no use left, or another request with the same key got the last one.
    registration = _existing(public_key)
    if registration is None:
        raise Forbidden("bad_token", "The enrolment token is unknown, expired, revoked or used up; ask for a new one.")
    return registration


def _existing(public_key: str) -> Registration | None:
    """Return the registration of a key that is registered already."""
    device = Device.objects.select_related("group").filter(public_key=public_key).first()
    if device is None:
        return None
    if device.state == DeviceState.DECOMMISSIONED:
        raise Forbidden("decommissioned", "This key was decommissioned; generate a new key to enrol this machine.")
    return Registration(device, is_new=False)


def _insert(token: EnrolmentToken, public_key: str, device_type: str, hardware: dict[str, Any], name: str) -> Device:
    device = Device(
        public_key=public_key,
        device_type=device_type,
        hardware=hardware,
        name=name,
        group=token.group,
        state=DeviceState.ACCEPTED if token.accepts_at_once else DeviceState.PENDING,
        accepted_at=timezone.now() if token.accepts_at_once else None,
    )
    # If another transaction is inserting the same key, this waits for it and then inserts nothing.
    Device.objects.bulk_create([device], ignore_conflicts=True)
    if not Device.objects.filter(pk=device.pk).exists():
        raise _AlreadyRegistered
    record_event(
        "device.registered",
        f"Device {device} registered with token {token.name} and is {device.state}.",
        actor="device",
        device=device.pk,
        token=str(token.id),
    )
    return device
