"""Bundles, the blobs that their manifests name, and the uploads on which blobs arrive.

bundle:  draft ──publish──► verifying ──► ready ──withdraw──► withdrawn
           ▲                    │
           └── a blob is wrong ─┘            (a draft may be discarded: the row is deleted)

upload:  open ──complete──► verifying ──► stored
           │                    └───────► refused   (digest or size differ, with a reason)
           └── abandoned ──────────────► expired
"""

import uuid
from datetime import datetime

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from bundles.sent_archives import SentArchive
from bundles.transitions import Stateful
from foundation.errors import NotFound

__all__ = [
    "UNDECIDED", "UNFINISHED", "Blob", "Bundle", "BundleFile", "BundleState", "SentArchive", "Upload", "UploadPart",
    "UploadState",
]  # fmt: skip

NAME_PATTERN = r"^[a-z0-9][a-z0-9._+-]{0,62}$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"


class BundleState(models.TextChoices):
    DRAFT = "draft", "draft"
    VERIFYING = "verifying", "verifying"
    READY = "ready", "ready"
    WITHDRAWN = "withdrawn", "withdrawn"


# Not ready yet, and perhaps not all of its bytes are there.
UNDECIDED = (BundleState.DRAFT, BundleState.VERIFYING)


class UploadState(models.TextChoices):
    OPEN = "open", "open"
    VERIFYING = "verifying", "verifying"
    STORED = "stored", "stored"
    REFUSED = "refused", "refused"
    EXPIRED = "expired", "expired"


# Somebody still works on it: the publisher sends parts, or the scheduler hashes.
UNFINISHED = (UploadState.OPEN, UploadState.VERIFYING)


class Blob(models.Model):
    """The bytes of one file, stored once under their sha256. The row exists only while the object does."""

    sha256 = models.CharField(max_length=64, primary_key=True)
    size = models.BigIntegerField()
    stored_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(sha256__regex=SHA256_PATTERN), name="blob_sha256_is_lower_hex"),
            models.CheckConstraint(condition=Q(size__gte=0), name="blob_size_not_negative"),
        ]

    def __str__(self) -> str:
        return self.sha256[:12]


class BundleQuerySet(models.QuerySet["Bundle"]):
    def ready(self) -> "BundleQuerySet":
        """What may be deployed and fetched."""
        return self.filter(state=BundleState.READY)

    def verifying(self) -> "BundleQuerySet":
        """What the scheduler decides on next."""
        return self.filter(state=BundleState.VERIFYING)

    def get_by_label(self, label: str) -> "Bundle":
        """The bundle called `name@version`, in whatever state. Raises `NotFound` (`unknown_bundle`)."""
        name, _, version = label.partition("@")
        bundle = None if "\x00" in label else self.filter(name=name, version=version).first()
        if bundle is None:
            hint = "" if name and version else "; names look like vad@1.0.0"
            raise NotFound("unknown_bundle", f"There is no bundle {label[:130]!a}{hint}.")
        return bundle


class Bundle(Stateful):
    """An immutable named version. `manifest` is the canonical JSON, byte for byte as devices fetch it."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=63, editable=False)
    version = models.CharField(max_length=63, editable=False)
    state = models.CharField(max_length=16, choices=BundleState, default=BundleState.DRAFT, editable=False)
    state_reason = models.CharField(max_length=500, default="", editable=False)
    manifest = models.TextField(editable=False)
    manifest_sha256 = models.CharField(max_length=64, editable=False)
    manifest_size = models.PositiveIntegerField(editable=False)
    size = models.BigIntegerField(editable=False)
    file_count = models.PositiveIntegerField(editable=False)
    device_types = ArrayField(models.CharField(max_length=63), default=list, editable=False)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, editable=False, on_delete=models.SET_NULL, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    ready_at = models.DateTimeField(null=True, editable=False)
    withdrawn_at = models.DateTimeField(null=True, editable=False)

    objects = BundleQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.UniqueConstraint(fields=["name", "version"], name="bundle_version_once"),
            models.CheckConstraint(condition=Q(name__regex=NAME_PATTERN), name="bundle_name_is_plain"),
            models.CheckConstraint(condition=Q(version__regex=NAME_PATTERN), name="bundle_version_is_plain"),
            models.CheckConstraint(condition=Q(manifest_sha256__regex=SHA256_PATTERN), name="bundle_manifest_sha256"),
        ]
        indexes = [
            # The scheduler's look for bundles to verify.
            models.Index(fields=["created_at"], name="bundle_verifying", condition=Q(state="verifying"))
        ]

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


class BundleFile(models.Model):
    """One line of a manifest: which bytes stand at which path."""

    id = models.BigAutoField(primary_key=True)
    bundle = models.ForeignKey(Bundle, on_delete=models.CASCADE, related_name="files")
    path = models.CharField(max_length=1024)
    sha256 = models.CharField(max_length=64)
    size = models.BigIntegerField()
    mode = models.PositiveSmallIntegerField()

    class Meta:
        ordering = ["path"]
        constraints = [
            models.UniqueConstraint(fields=["bundle", "path"], name="bundle_file_path_once"),
            models.CheckConstraint(condition=Q(sha256__regex=SHA256_PATTERN), name="bundle_file_sha256"),
            models.CheckConstraint(condition=Q(size__gte=0), name="bundle_file_size_not_negative"),
        ]
        indexes = [
            # Which bundles use a blob: device downloads and garbage collection.
            models.Index(fields=["sha256"], name="bundle_file_blob")
        ]

    def __str__(self) -> str:
        return self.path


class UploadQuerySet(models.QuerySet["Upload"]):
    def unfinished(self) -> "UploadQuerySet":
        """Open, or waiting for the scheduler to hash them."""
        return self.filter(state__in=UNFINISHED)

    def verifying(self) -> "UploadQuerySet":
        return self.filter(state=UploadState.VERIFYING)

    def abandoned(self, since: datetime) -> "UploadQuerySet":
        """Open, and without a new part since then."""
        return self.filter(state=UploadState.OPEN, touched_at__lt=since)


class Upload(Stateful):
    """Bytes on their way to becoming a blob, in numbered parts from 1; never at a final key."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    sha256 = models.CharField(max_length=64)
    size = models.BigIntegerField()
    part_size = models.PositiveIntegerField()
    # The storage's own name for an upload whose parts are put there directly.
    multipart_id = models.TextField(default="", db_default="", blank=True)
    state = models.CharField(max_length=16, choices=UploadState, default=UploadState.OPEN)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    # Moves with every part: an upload expires only after nothing came for a while.
    touched_at = models.DateTimeField(auto_now_add=True)

    objects = UploadQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]
        constraints = [
            models.CheckConstraint(condition=Q(sha256__regex=SHA256_PATTERN), name="upload_sha256"),
            models.CheckConstraint(condition=Q(size__gte=0), name="upload_size_not_negative"),
            # Said twice at once, the same upload is started once.
            models.UniqueConstraint(
                fields=["created_by", "sha256", "size"], name="upload_open_once", condition=Q(state="open")
            ),
        ]
        indexes = [
            # The scheduler's look for uploads to hash and to expire.
            models.Index(
                fields=["state", "touched_at"], name="upload_unfinished", condition=Q(state__in=["open", "verifying"])
            ),
            # Whether a blob is on its way.
            models.Index(
                fields=["sha256"], name="upload_sha256_unfinished", condition=Q(state__in=["open", "verifying"])
            ),
        ]

    def __str__(self) -> str:
        return f"{self.id} ({self.state})"

    @property
    def part_count(self) -> int:
        """How many parts make the whole; none for an empty file."""
        return -(-self.size // self.part_size)

    def size_of_part(self, number: int) -> int:
        """How many bytes part `number` (from 1) has: all have `part_size`, the last has the rest."""
        return min(self.part_size, self.size - (number - 1) * self.part_size)


class UploadPart(models.Model):
    """A part whose bytes are on disk, synced, and matched the sha256 that was announced for them.

    One with an `md5` was announced to be put into the bucket directly: whether it arrived is asked there.
    """

    id = models.BigAutoField(primary_key=True)
    upload = models.ForeignKey(Upload, on_delete=models.CASCADE, related_name="parts")
    number = models.PositiveIntegerField()
    sha256 = models.CharField(max_length=64)
    size = models.PositiveIntegerField()
    md5 = models.CharField(max_length=32, default="", db_default="", blank=True)

    class Meta:
        ordering = ["number"]
        constraints = [
            models.UniqueConstraint(fields=["upload", "number"], name="upload_part_once"),
            models.CheckConstraint(condition=Q(number__gte=1), name="upload_part_number_from_one"),
        ]

    def __str__(self) -> str:
        return f"part {self.number}"
