"""The blobs that a bundle still needs.

Python does the comparison instead of a join. Right after a large bundle arrived, the tables' statistics do not include
it, and PostgreSQL might compare each of 10,000 files with each of 10,000 blobs.
"""

from dataclasses import dataclass

from bundles.models import Blob, Bundle, Upload


@dataclass(frozen=True, order=True, slots=True)
class MissingBlob:
    """A blob that is not stored with the declared `size` in bytes."""

    sha256: str
    size: int


def missing_blobs(bundle: Bundle) -> list[MissingBlob]:
    """Return each blob that the bundle's files need and that is not stored, sorted by sha256."""
    return _not_stored(_needed(bundle))


def lost_blobs(bundle: Bundle) -> list[MissingBlob]:
    """Return each missing blob whose bytes are not being verified either, sorted by sha256."""
    needed = _needed(bundle)
    # Read before the blobs: an upload that becomes a blob in the meantime is seen as one or the other.
    verifying = set(Upload.objects.verifying().filter(sha256__in=needed).values_list("sha256", "size"))
    return [blob for blob in _not_stored(needed) if (blob.sha256, blob.size) not in verifying]


def _needed(bundle: Bundle) -> dict[str, int]:
    """Return the sizes by sha256. A manifest gives each digest one size."""
    return dict(bundle.files.order_by("sha256").values_list("sha256", "size"))


def _not_stored(needed: dict[str, int]) -> list[MissingBlob]:
    stored = Blob.objects.sizes(needed)
    return [MissingBlob(sha256, size) for sha256, size in needed.items() if stored.get(sha256) != size]
