"""Drafting and publishing: the rules about a bundle and its blobs. The rules of a single bundle are its methods."""

from dataclasses import asdict
from typing import NamedTuple

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from bundles.manifest import Manifest
from bundles.missing_blobs import lost_blobs
from bundles.models import Blob, Bundle, BundleFile, BundleState
from foundation.errors import Conflict, IllegalTransition
from foundation.events.models import record_event

FILES_PER_STATEMENT = 2000
SHOWN_MISSING = 20


class Draft(NamedTuple):
    """The bundle of a manifest, and whether this call created it."""

    bundle: Bundle
    is_new: bool


def draft(manifest: Manifest, *, actor: str, user: User | None) -> Draft:
    """Return the bundle of this manifest. Idempotent: an identical manifest returns the same bundle.

    Raises `Conflict`: `version_exists` if the name and version have another manifest, `size_differs` if the size of a
    stored blob differs from the manifest.
    """
    try:
        with transaction.atomic():
            return Draft(_insert(manifest, actor, user), is_new=True)
    except IntegrityError:
        bundle = Bundle.objects.get_by_label(manifest.label)
    if bundle.manifest_sha256 != manifest.sha256:
        raise Conflict(
            "version_exists",
            f"{manifest.label} exists with a different manifest, and a bundle never changes: choose another version.",
            manifest_sha256=bundle.manifest_sha256,
        )
    return Draft(bundle, is_new=False)


def _insert(manifest: Manifest, actor: str, user: User | None) -> Bundle:
    _claim_blobs(manifest)
    bundle = Bundle.objects.create(
        name=manifest.name,
        version=manifest.version,
        manifest=manifest.body.decode("utf-8"),
        manifest_sha256=manifest.sha256,
        manifest_size=len(manifest.body),
        size=manifest.size,
        file_count=len(manifest.files),
        device_types=list(manifest.device_types),
        release_counter=manifest.release_counter,
        created_by=user,
    )
    files = (
        BundleFile(bundle=bundle, path=file.path, sha256=file.sha256, size=file.size, mode=file.mode)
        for file in manifest.files
    )
    BundleFile.objects.bulk_create(files, batch_size=FILES_PER_STATEMENT)
    record_event("bundle.drafted", f"{bundle} was drafted.", actor=actor, bundle=bundle.pk)
    return bundle


def _claim_blobs(manifest: Manifest) -> None:
    """Keep the stored blobs of a new draft. Raises `Conflict` (`size_differs`)."""
    sizes = {file.sha256: file.size for file in manifest.files}
    for sha256, size in Blob.objects.claim(sizes).items():
        if sizes[sha256] != size:
            raise Conflict("size_differs", f"The blob {sha256} has {size} bytes, not {sizes[sha256]}.")


def publish(bundle: Bundle, *, actor: str) -> None:
    """Submit a draft for verification, after which the scheduler makes it ready. Idempotent.

    Raises `Conflict` (`missing_blobs`, with up to 20 `missing`), `IllegalTransition`, `NotFound`.
    """
    if bundle.state == BundleState.DRAFT:
        missing = [asdict(blob) for blob in lost_blobs(bundle)[:SHOWN_MISSING]]
        if missing:
            raise Conflict(
                "missing_blobs", f"{bundle} has files whose bytes have not been uploaded yet.", missing=missing
            )
        if bundle.start_verifying(actor=actor):
            return
        bundle.reload()
    if bundle.state not in {BundleState.VERIFYING, BundleState.READY}:
        raise IllegalTransition("illegal_transition", f"{bundle} is {bundle.state} and cannot be published.")
