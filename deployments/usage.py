"""Which devices run a bundle, according to their last heartbeats."""

from django.db.models.fields.json import KeyTextTransform, KeyTransform

from bundles.models import Bundle
from devices.models import Device, DeviceQuerySet, Health


def devices_running(bundle: Bundle) -> DeviceQuerySet:
    """Return the accepted devices that report to run exactly this bundle."""
    manifest = KeyTextTransform("manifest_sha256", KeyTransform(bundle.name, "running_bundles"))
    return Device.objects.accepted().alias(running_manifest=manifest).filter(running_manifest=bundle.manifest_sha256)


def usage(bundle: Bundle) -> dict[str, int]:
    """Return how many devices run a bundle, by health. `unknown` are those that are not online."""
    devices = devices_running(bundle)
    counts = devices.health_counts()
    # A device may change between the two statements.
    return counts | {Health.UNKNOWN.value: max(0, devices.count() - sum(counts.values()))}
