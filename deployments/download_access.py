"""What a device may fetch: all that is ready, and what it is being asked to install even if it was withdrawn since."""

from uuid import UUID

from django.db.models import Exists, OuterRef, Q, QuerySet

from bundles.models import Blob, Bundle, BundleFile, BundleState
from deployments.models import DeviceDeployment
from foundation.errors import NotFound


def bundles_for(device_id: UUID) -> QuerySet[Bundle]:
    """The bundles that this device may fetch."""
    active = DeviceDeployment.objects.active().filter(device_id=device_id, deployment__bundle=OuterRef("pk"))
    return Bundle.objects.filter(Q(state=BundleState.READY) | Q(state=BundleState.WITHDRAWN) & Exists(active))


def manifest(device_id: UUID, name: str, version: str, manifest_sha256: str) -> bytes:
    """The manifest's bytes. Raises `NotFound` (`unknown_manifest`)."""
    wanted = bundles_for(device_id).filter(name=name, version=version, manifest_sha256=manifest_sha256)
    text = wanted.values_list("manifest", flat=True).first()
    if text is None:
        raise NotFound("unknown_manifest", "No bundle of this name and version, with this manifest, is to be had here.")
    return text.encode("utf-8")


def size_of_blob(device_id: UUID, sha256: str) -> int:
    """The size of a blob that this device may fetch. Raises `NotFound` (`unknown_blob`)."""
    used = BundleFile.objects.filter(sha256=OuterRef("sha256"), bundle__in=bundles_for(device_id).values("pk"))
    size = Blob.objects.filter(Exists(used), sha256=sha256).values_list("size", flat=True).first()
    if size is None:
        raise NotFound("unknown_blob", "No bundle that is to be had here has a file with this sha256.")
    return size
