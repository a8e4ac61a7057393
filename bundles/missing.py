"""Which bytes a bundle still waits for, as `[{"sha256", "size"}]`: each once, sorted by sha256.

Compared here and not by a join: right after a large bundle arrived, the tables' statistics know nothing of it, and
PostgreSQL may then compare each of 10,000 files with each of 10,000 blobs.
"""

from typing import Any

from bundles.models import Blob, Bundle, Upload


def missing_blobs(bundle: Bundle) -> list[dict[str, Any]]:
    """What its files need and is not stored in the announced size."""
    return _not_stored(_needed(bundle))


def hopeless_blobs(bundle: Bundle) -> list[dict[str, Any]]:
    """Missing, and no upload of those bytes is being verified."""
    needed = _needed(bundle)
    # Before the blobs are: an upload that becomes one meanwhile is seen as the one or the other.
    verifying = set(Upload.objects.verifying().filter(sha256__in=needed).values_list("sha256", "size"))
    return [line for line in _not_stored(needed) if (line["sha256"], line["size"]) not in verifying]


def _needed(bundle: Bundle) -> dict[str, int]:
    """sha256 to size: a manifest gives each digest one size."""
    return dict(bundle.files.order_by("sha256").values_list("sha256", "size"))


def _not_stored(needed: dict[str, int]) -> list[dict[str, Any]]:
    stored = dict(Blob.objects.filter(sha256__in=needed).values_list("sha256", "size"))
    return [{"sha256": sha256, "size": size} for sha256, size in needed.items() if stored.get(sha256) != size]
