"""What devices say they run, compared with what was last deployed to them successfully.

A difference is shown and becomes an event once; nothing is done about it here. A product that is being deployed right
now is compared when that has ended, and what a device said before its last success says nothing about that success.
"""

import time
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef

from deployments.models import Comparison, DeviceDeployment, DeviceDeploymentState
from devices.models import Device, DeviceQuerySet
from foundation.events.models import Event
from foundation.scheduler import ACTOR

BATCH = 1000
RUN_SECONDS = 5.0
BUNDLE_FIELDS = ("name", "version", "manifest_sha256")

Differences = dict[str, dict[str, str]]


def compare() -> int:
    """Compare devices whose running bundles changed. Returns for how many of them something differs newly."""
    ends_at = time.monotonic() + RUN_SECONDS
    found = 0
    while True:
        with transaction.atomic():
            devices = list(
                changed_devices().order_by().select_for_update(skip_locked=True, of=("self",), no_key=True)[:BATCH]
            )
            found += _compare(devices)
        if len(devices) < BATCH or time.monotonic() > ends_at:
            return found


def changed_devices() -> DeviceQuerySet:
    """Devices that changed what they run since they were compared, and that nothing is being deployed to."""
    compared = Comparison.objects.filter(device=OuterRef("pk"), compared_to=OuterRef("running_changed_at"))
    busy = DeviceDeployment.objects.active().filter(device=OuterRef("pk"))
    return Device.objects.accepted().filter(~Exists(compared), ~Exists(busy), running_changed_at__isnull=False)


def _compare(devices: list[Device]) -> int:
    """Compare held devices. Returns how many differ in a way that they did not before."""
    expected = last_successes([device.pk for device in devices])
    known = Comparison.objects.in_bulk([device.pk for device in devices])
    comparisons, events = [], []
    for device in devices:
        if device.running_changed_at is None:
            continue
        before = known[device.pk].differences if device.pk in known else {}
        now = differences(device, expected.get(device.pk, []))
        events += [_event(device, product, one) for product, one in now.items() if before.get(product) != one]
        comparisons.append(Comparison(device=device, compared_to=device.running_changed_at, differences=now))
    Comparison.objects.bulk_create(
        comparisons,
        update_conflicts=True,
        unique_fields=["device"],
        update_fields=["compared_to", "differences"],
    )
    Event.objects.bulk_create(events)
    return len({event.device_id for event in events})


def last_successes(ids: list[UUID]) -> dict[UUID, list[DeviceDeployment]]:
    """The last successful way of each product, for each device."""
    rows = (
        DeviceDeployment.objects.filter(device__in=ids, state=DeviceDeploymentState.SUCCEEDED)
        .select_related("deployment__bundle")
        .only("device", "product", "finished_at", *(f"deployment__bundle__{name}" for name in BUNDLE_FIELDS))
        .order_by("device_id", "product", "-finished_at")
        .distinct("device_id", "product")
    )
    found: dict[UUID, list[DeviceDeployment]] = {}
    for row in rows:
        found.setdefault(row.device_id, []).append(row)
    return found


def differences(device: Device, successes: list[DeviceDeployment]) -> Differences:
    """By product, what should run (`expected`) and what the device says (`reported`), where the two differ."""
    differing: Differences = {}
    for row in successes:
        if row.finished_at is None or device.running_changed_at is None or device.running_changed_at < row.finished_at:
            continue
        bundle = row.deployment.bundle
        reported = device.running_bundles.get(row.product)
        if not isinstance(reported, dict):
            reported = {}
        if reported.get("manifest_sha256") != bundle.manifest_sha256:
            version = str(reported.get("version", ""))[:63]
            differing[row.product] = {
                "expected": str(bundle),
                "reported": f"{row.product}@{version}" if version else "nothing",
                "reported_sha256": str(reported.get("manifest_sha256", ""))[:64],
            }
    return differing


def _event(device: Device, product: str, one: dict[str, str]) -> Event:
    return Event(
        kind="device.differs",
        message=f"Device {device} runs {one['reported']}, where {one['expected']} was deployed last.",
        actor=ACTOR,
        device_id=device.pk,
        data={"product": product, **one},
    )
