"""What a device may fetch: every ready bundle, and a withdrawn one while the device has an active deployment of it."""

from uuid import UUID

from django.db.models import Exists, OuterRef, Q, QuerySet

from bundles.models import Blob, Bundle, BundleFile, BundleState
from deployments.models import DeviceDeployment
from foundation.errors import NotFound


def bundles_for(device_id: UUID) -> QuerySet[Bundle]:
    """Return the bundles that this device may fetch."""
    active = DeviceDeployment.objects.active().filter(
        Q(bundle=OuterRef("pk")) | Q(bundle=None, deployment__bundle=OuterRef("pk")), device_id=device_id
    )
    return Bundle.objects.filter(Q(state=BundleState.READY) | Q(state=BundleState.WITHDRAWN) & Exists(active))


def manifest(device_id: UUID, name: str, version: str, manifest_sha256: str) -> bytes:
    """Return the manifest's bytes. Raises `NotFound` (`unknown_manifest`)."""
    bundles = bundles_for(device_id).filter(name=name, version=version, manifest_sha256=manifest_sha256)
    text = bundles.values_list("manifest", flat=True).first()
    if text is None:
        raise NotFound("unknown_manifest", "This device may not fetch a bundle with this name, version and manifest.")
    return text.encode("utf-8")


def size_of_blob(device_id: UUID, sha256: str) -> int:
    """Return the size in bytes of a blob that this device may fetch. Raises `NotFound` (`unknown_blob`)."""
    used = BundleFile.objects.filter(sha256=OuterRef("sha256"), bundle__in=bundles_for(device_id).values("pk"))
    size = Blob.objects.filter(Exists(used), sha256=sha256).values_list("size", flat=True).first()
    if size is None:
        raise NotFound("unknown_blob", "This device may not fetch a bundle that has a file with this sha256.")
    return size
