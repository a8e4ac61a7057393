"""Registration: a key that proves itself, and an enrolment token, become a device.

1. A key that is known already is answered as it stands, whatever the token; it uses nothing up.
2. One use of the token is taken by one conditional UPDATE.
3. The device is inserted. Should the same key have been faster elsewhere, the use is given back and 1. applies.
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


class _Overtaken(Exception):
    """The same key was registered meanwhile; undoes the transaction, and the use of the token with it."""


def register(
    *, token: str, public_key: str, device_type: str, hardware: dict[str, Any], name: str = ""
) -> Registration:
    """Make a device of a key whose holder proved itself. The token decides group and state.

    Raises `Forbidden`: `bad_token`, or `decommissioned` for a key that was put out of service.
    """
    known = _known(public_key)
    if known is not None:
        return known
    try:
        with transaction.atomic():
            used = EnrolmentToken.objects.use_up(token)
            if used is not None:
                return Registration(_insert(used, public_key, device_type, hardware, name), is_new=True)
    except _Overtaken:
        pass
    # Either no use is left, or the same key took it between our two looks.
    known = _known(public_key)
    if known is None:
        raise Forbidden("bad_token", "The enrolment token is unknown, expired, revoked or used up; ask for a new one.")
    return known


def _known(public_key: str) -> Registration | None:
    device = Device.objects.select_related("group").filter(public_key=public_key).first()
    if device is None:
        return None
    if device.state == DeviceState.DECOMMISSIONED:
        raise Forbidden("decommissioned", "This key was decommissioned; make a new one to enrol this machine again.")
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
    # Waits for another transaction that inserts the same key, and then inserts nothing.
    Device.objects.bulk_create([device], ignore_conflicts=True)
    if not Device.objects.filter(pk=device.pk).exists():
        raise _Overtaken
    record_event(
        "device.registered",
        f"Device {device} registered with token {token.name} and is {device.state}.",
        actor="device",
        device=device.pk,
        token=str(token.id),
    )
    return device
