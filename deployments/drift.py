"""What devices report to run, compared with what was last deployed to them successfully.

A mismatch is shown and becomes one event; nothing else is done about it. A device with an active deployment is compared
after it has ended. A report that is older than the last success says nothing about that success.
"""

from dataclasses import asdict, dataclass
from uuid import UUID

from django.db.models import Exists, OuterRef

from deployments.models import Comparison, DeviceDeployment, DeviceDeploymentState
from devices.models import Device, DeviceQuerySet
from foundation.batches import run_in_batches
from foundation.events.models import Event
from foundation.scheduler import ACTOR

BATCH = 1000
BUNDLE_FIELDS = ("name", "version", "manifest_sha256")


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A product that a device does not run as deployed. `expected` and `reported` are `name@version`, or `nothing`."""

    expected: str
    reported: str
    reported_sha256: str


def compare() -> int:
    """Compare devices whose running bundles changed. Return how many devices have a new mismatch."""
    new_mismatches = 0

    def compare_batch() -> int:
        nonlocal new_mismatches
        changed = changed_devices().order_by()
        devices = list(changed.select_for_update(skip_locked=True, of=("self",), no_key=True)[:BATCH])
        new_mismatches += _compare(devices)
        return len(devices)

    run_in_batches(compare_batch, size=BATCH)
    return new_mismatches


def changed_devices() -> DeviceQuerySet:
    """Devices whose running bundles changed after their last comparison, and that have no active deployment."""
    compared = Comparison.objects.filter(device=OuterRef("pk"), compared_to=OuterRef("running_changed_at"))
    active = DeviceDeployment.objects.active().filter(device=OuterRef("pk"))
    return Device.objects.accepted().filter(~Exists(compared), ~Exists(active), running_changed_at__isnull=False)


def _compare(devices: list[Device]) -> int:
    """Compare locked devices. Return how many have a mismatch that they did not have before."""
    ids = [device.pk for device in devices]
    successes = last_successes(ids)
    previous = Comparison.objects.in_bulk(ids)
    comparisons, events = [], []
    for device in devices:
        if device.running_changed_at is None:
            continue
        before = previous[device.pk].differences if device.pk in previous else {}
        mismatches = {
            product: asdict(mismatch)
            for product, mismatch in find_mismatches(device, successes.get(device.pk, [])).items()
        }
        events += [
            _event(device, product, mismatch)
            for product, mismatch in mismatches.items()
            if before.get(product) != mismatch
        ]
        comparisons.append(Comparison(device=device, compared_to=device.running_changed_at, differences=mismatches))
    Comparison.objects.bulk_create(
        comparisons,
        update_conflicts=True,
        unique_fields=["device"],
        update_fields=["compared_to", "differences"],
    )
    Event.objects.bulk_create(events)
    return len({event.device_id for event in events})


def last_successes(ids: list[UUID]) -> dict[UUID, list[DeviceDeployment]]:
    """Return the last successful device deployment of each product, by device."""
    rows = (
        DeviceDeployment.objects.filter(device__in=ids, state=DeviceDeploymentState.SUCCEEDED)
        .select_related("bundle", "deployment__bundle")
        .only(
            "device",
            "product",
            "finished_at",
            *(f"{path}__{name}" for path in ("bundle", "deployment__bundle") for name in BUNDLE_FIELDS),
        )
        .order_by("device_id", "product", "-finished_at")
        .distinct("device_id", "product")
    )
    successes: dict[UUID, list[DeviceDeployment]] = {}
    for row in rows:
        successes.setdefault(row.device_id, []).append(row)
    return successes


def find_mismatches(device: Device, successes: list[DeviceDeployment]) -> dict[str, Mismatch]:
    """Return, by product, where the device's report differs from its last success."""
    mismatches: dict[str, Mismatch] = {}
    for row in successes:
        if row.finished_at is None or device.running_changed_at is None or device.running_changed_at < row.finished_at:
            continue
        bundle = row.target
        reported = device.running_bundles.get(row.product)
        if not isinstance(reported, dict):
            reported = {}
        if reported.get("manifest_sha256") != bundle.manifest_sha256:
            version = str(reported.get("version", ""))[:63]
            mismatches[row.product] = Mismatch(
                expected=str(bundle),
                reported=f"{row.product}@{version}" if version else "nothing",
                reported_sha256=str(reported.get("manifest_sha256", ""))[:64],
            )
    return mismatches


def _event(device: Device, product: str, mismatch: dict[str, str]) -> Event:
    return Event(
        kind="device.differs",
        message=f"Device {device} runs {mismatch['reported']}; {mismatch['expected']} was deployed last.",
        actor=ACTOR,
        device_id=device.pk,
        data={"product": product, **mismatch},
    )
