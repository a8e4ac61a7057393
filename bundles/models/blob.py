"""Blobs: the bytes of one file each. `bundles.garbage_collection` deletes those that nothing refers to.

A stored blob has a `Blob` row. While its object is being deleted it has a `BlobDeletion` row instead:

    Blob ──no reference for BLOB_KEEP_DAYS──► BlobDeletion ──object deleted, GRACE passed──► no row
"""

from collections.abc import Collection

from django.db import models
from django.db.models import Q

from bundles.identifiers import ANCHORED_SHA256_PATTERN, SHA256_LENGTH


class BlobQuerySet(models.QuerySet["Blob"]):
    def claim(self, digests: Collection[str]) -> dict[str, int]:
        """Keep these blobs from being collected. Return the size in bytes of each that is stored, by sha256.

        Call it in the transaction that refers to them. If the collector is deleting a blob, this waits until the
        row is gone, so that the caller sees a missing blob and requests its bytes again. Blobs that the collector has
        not marked need no lock: it deletes a blob at the earliest one day after marking it.
        """
        marked = self.filter(sha256__in=digests, unreferenced_at__isnull=False).order_by("sha256")
        locked = list(marked.select_for_update().values_list("sha256", flat=True))
        self.filter(sha256__in=locked).update(unreferenced_at=None)
        return self.sizes(digests)

    def sizes(self, digests: Collection[str]) -> dict[str, int]:
        """Return the size in bytes of each of these blobs that is stored, by sha256."""
        return dict(self.filter(sha256__in=digests).values_list("sha256", "size"))


class Blob(models.Model):
    """The bytes of one file, stored once under their sha256. The row exists only while the object does."""

    sha256 = models.CharField(max_length=SHA256_LENGTH, primary_key=True)
    size = models.BigIntegerField()
    stored_at = models.DateTimeField(auto_now_add=True)
    # When the collector first found no reference to it. Null: it has a reference, or the collector has not looked yet.
    unreferenced_at = models.DateTimeField(null=True)

    objects = BlobQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(sha256__regex=ANCHORED_SHA256_PATTERN), name="blob_sha256_is_lower_hex"),
            models.CheckConstraint(condition=Q(size__gte=0), name="blob_size_not_negative"),
        ]
        indexes = [
            # The collector's list of blobs to delete.
            models.Index(
                fields=["unreferenced_at"], name="blob_unreferenced", condition=Q(unreferenced_at__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return self.sha256[:12]


class BlobDeletion(models.Model):
    """A blob whose row is gone and whose object is being deleted. Until then, nothing is stored under its sha256."""

    sha256 = models.CharField(max_length=SHA256_LENGTH, primary_key=True)
    size = models.BigIntegerField()
    # When the object was deleted. The row stays for a while: another process may still be about to delete it.
    deleted_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.sha256[:12]
