"""How a bundle comes to be: drafted from its manifest, published, verified, and perhaps discarded or withdrawn."""

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.utils import timezone

from bundles.manifest import Manifest
from bundles.missing import hopeless_blobs
from bundles.models import Blob, Bundle, BundleFile, BundleState
from foundation.errors import Conflict, IllegalTransition, NotFound
from foundation.events.models import record_event

FILES_A_STATEMENT = 2000
MISSING_SHOWN = 20


def draft(manifest: Manifest, *, actor: str, user: User | None) -> tuple[Bundle, bool]:
    """The bundle of this manifest, and whether it is new. The identical manifest again gives the same bundle.

    Raises `Conflict`: `version_exists` when the name and version stand for another manifest, `size_differs` when
    a stored blob shows that an announced size is false.
    """
    check_sizes(manifest)
    try:
        with transaction.atomic():
            return _insert(manifest, actor, user), True
    except IntegrityError:
        bundle = Bundle.objects.get_by_label(manifest.label)
    if bundle.manifest_sha256 != manifest.sha256:
        raise Conflict(
            "version_exists",
            f"{manifest.label} exists with another manifest, and a bundle never changes: choose another version.",
            manifest_sha256=bundle.manifest_sha256,
        )
    return bundle, False


def check_sizes(manifest: Manifest) -> None:
    """Compare with what is stored. Raises `Conflict` (`size_differs`)."""
    announced = {file.sha256: file.size for file in manifest.files}
    for sha256, size in Blob.objects.filter(sha256__in=announced).values_list("sha256", "size"):
        if announced[sha256] != size:
            raise Conflict("size_differs", f"The blob {sha256} has {size} bytes, not {announced[sha256]}.")


def _insert(manifest: Manifest, actor: str, user: User | None) -> Bundle:
    bundle = Bundle.objects.create(
        name=manifest.name,
        version=manifest.version,
        manifest=manifest.body.decode("utf-8"),
        manifest_sha256=manifest.sha256,
        manifest_size=len(manifest.body),
        size=manifest.size,
        file_count=len(manifest.files),
        device_types=list(manifest.device_types),
        created_by=user,
    )
    files = (
        BundleFile(bundle=bundle, path=file.path, sha256=file.sha256, size=file.size, mode=file.mode)
        for file in manifest.files
    )
    BundleFile.objects.bulk_create(files, batch_size=FILES_A_STATEMENT)
    record_event("bundle.drafted", f"{bundle} was drafted.", actor=actor, bundle=bundle.pk)
    return bundle


def publish(bundle: Bundle, *, actor: str) -> Bundle:
    """Ask for a draft to become ready; the scheduler decides. Harmless for a bundle on its way or there already.

    Raises `Conflict` (`missing_blobs`, with up to 20 `missing`), `IllegalTransition` and `NotFound`.
    """
    if bundle.state == BundleState.DRAFT:
        missing = hopeless_blobs(bundle)[:MISSING_SHOWN]
        if missing:
            raise Conflict("missing_blobs", f"{bundle} has files whose bytes were not uploaded yet.", missing=missing)
        with transaction.atomic():
            if bundle.move_to(BundleState.VERIFYING, only_from=BundleState.DRAFT):
                record_event("bundle.published", f"{bundle} is to be published.", actor=actor, bundle=bundle.pk)
                return bundle
        _look_again(bundle)
    if bundle.state not in {BundleState.VERIFYING, BundleState.READY}:
        raise IllegalTransition("illegal_transition", f"{bundle} is {bundle.state} and cannot be published.")
    return bundle


def discard(bundle: Bundle, *, actor: str) -> None:
    """Delete a draft; its name and version are free again. Blobs that were stored for it stay.

    Raises `IllegalTransition` (`illegal_transition`) for what was published, `NotFound` (`unknown_bundle`).
    """
    with transaction.atomic():
        # Locked, so that nobody publishes between the look and the deletion.
        draft = Bundle.objects.select_for_update().filter(pk=bundle.pk, state=BundleState.DRAFT).first()
        if draft is not None:
            record_event("bundle.discarded", f"{draft} was discarded.", actor=actor, bundle=draft.pk)
            draft.delete()
            return
    _look_again(bundle)
    raise IllegalTransition("illegal_transition", f"{bundle} is {bundle.state}; only a draft is discarded.")


def withdraw(bundle: Bundle, *, actor: str) -> Bundle:
    """Take a ready bundle out of service: it stays visible, but is neither deployed nor fetched any more.

    Harmless when repeated. Raises `IllegalTransition` (`illegal_transition`), `NotFound`.
    """
    with transaction.atomic():
        if bundle.move_to(BundleState.WITHDRAWN, only_from=BundleState.READY, withdrawn_at=timezone.now()):
            record_event("bundle.withdrawn", f"{bundle} was withdrawn.", actor=actor, bundle=bundle.pk)
            return bundle
    _look_again(bundle)
    if bundle.state != BundleState.WITHDRAWN:
        raise IllegalTransition("illegal_transition", f"{bundle} is {bundle.state}; only a ready bundle is withdrawn.")
    return bundle


def _look_again(bundle: Bundle) -> None:
    """What became of a row that somebody else changed first. Raises `NotFound` (`unknown_bundle`)."""
    try:
        bundle.refresh_from_db()
    except Bundle.DoesNotExist:
        raise NotFound("unknown_bundle", f"{bundle} was discarded.") from None
