"""Bundles and the files that their manifests list.

draft ──publish──► verifying ──► ready ──withdraw──► withdrawn
  ▲                    │
  └── a blob is wrong ─┘            (discarding a draft deletes the row)
"""

import uuid

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone

from bundles.identifiers import ANCHORED_NAME_PATTERN, ANCHORED_SHA256_PATTERN, NAME_LENGTH, SHA256_LENGTH
from bundles.models.base import REASON_LENGTH, ExplainedModel
from foundation.errors import IllegalTransition, NotFound
from foundation.events.models import record_event
from foundation.scheduler import ACTOR
from foundation.state_machine import StatefulQuerySet, Transitions


class BundleState(models.TextChoices):
    DRAFT = "draft", "draft"
    VERIFYING = "verifying", "verifying"
    READY = "ready", "ready"
    WITHDRAWN = "withdrawn", "withdrawn"


BUNDLE_TRANSITIONS = Transitions(
    {
        BundleState.DRAFT: {BundleState.VERIFYING},
        BundleState.VERIFYING: {BundleState.READY, BundleState.DRAFT},
        BundleState.READY: {BundleState.WITHDRAWN},
        BundleState.WITHDRAWN: {},
    }
)
# Bundles that are not ready yet and may lack blobs.
BEFORE_READY = (BundleState.DRAFT, BundleState.VERIFYING)


class BundleQuerySet(StatefulQuerySet["Bundle"]):
    def ready(self) -> "BundleQuerySet":
        """Bundles that may be deployed and fetched."""
        return self.in_states(BundleState.READY)

    def verifying(self) -> "BundleQuerySet":
        """Bundles that wait for the scheduler to verify them."""
        return self.in_states(BundleState.VERIFYING)

    def get_by_label(self, label: str) -> "Bundle":
        """Return the bundle called `name@version`, in any state. Raises `NotFound` (`unknown_bundle`)."""
        name, _, version = label.partition("@")
        bundle = None if "\x00" in label else self.filter(name=name, version=version).first()
        if bundle is None:
            hint = "" if name and version else "; a label looks like vad@1.0.0"
            raise NotFound("unknown_bundle", f"There is no bundle {label[:130]!a}{hint}.")
        return bundle


class Bundle(ExplainedModel):
    """An immutable named version. `manifest` is the canonical JSON, byte for byte as devices fetch it."""

    transitions = BUNDLE_TRANSITIONS

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=NAME_LENGTH, editable=False)
    version = models.CharField(max_length=NAME_LENGTH, editable=False)
    state = models.CharField(max_length=16, choices=BundleState, default=BundleState.DRAFT, editable=False)
    state_reason = models.CharField(max_length=REASON_LENGTH, default="", editable=False)
    manifest = models.TextField(editable=False)
    manifest_sha256 = models.CharField(max_length=SHA256_LENGTH, editable=False)
    manifest_size = models.PositiveIntegerField(editable=False)
    size = models.BigIntegerField(editable=False)
    file_count = models.PositiveIntegerField(editable=False)
    device_types = ArrayField(models.CharField(max_length=NAME_LENGTH), default=list, editable=False)
    # From the manifest: a higher number means a newer release of the product, whatever its version.
    release_counter = models.BigIntegerField(default=0, db_default=0, editable=False)
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
            models.CheckConstraint(condition=Q(name__regex=ANCHORED_NAME_PATTERN), name="bundle_name_is_plain"),
            models.CheckConstraint(condition=Q(version__regex=ANCHORED_NAME_PATTERN), name="bundle_version_is_plain"),
            models.CheckConstraint(
                condition=Q(manifest_sha256__regex=ANCHORED_SHA256_PATTERN), name="bundle_manifest_sha256"
            ),
        ]
        indexes = [
            # The scheduler's list of bundles to verify.
            models.Index(fields=["created_at"], name="bundle_verifying", condition=Q(state="verifying"))
        ]

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    def start_verifying(self, *, actor: str) -> bool:
        """Publish a draft whose blobs are stored or being verified. False if it is no longer a draft.

        `bundles.publishing.publish` checks the blobs.
        """
        with transaction.atomic():
            if not self.transition_to(BundleState.VERIFYING):
                return False
            record_event("bundle.published", f"{self} is to be published.", actor=actor, bundle=self.pk)
            return True

    def finish_verifying(self) -> bool:
        """Make a verified bundle ready. False if another scheduler decided first."""
        with transaction.atomic():
            if not self.transition_to(BundleState.READY, ready_at=timezone.now()):
                return False
            record_event("bundle.ready", f"{self} is ready.", actor=ACTOR, bundle=self.pk)
            return True

    def return_to_draft(self, reason: str) -> bool:
        """Make a bundle that cannot become ready a draft again. False if another scheduler decided first."""
        with transaction.atomic():
            if not self.transition_to(BundleState.DRAFT, state_reason=reason[:REASON_LENGTH]):
                return False
            record_event("bundle.returned", f"{self} is a draft again: {reason}.", actor=ACTOR, bundle=self.pk)
            return True

    def withdraw(self, *, actor: str) -> None:
        """Take a ready bundle out of service: it stays visible, but cannot be deployed or fetched any more. Idempotent.

        Raises `IllegalTransition` (`illegal_transition`), `NotFound` (`unknown_bundle`).
        """
        with transaction.atomic():
            if self.transition_to(BundleState.WITHDRAWN, withdrawn_at=timezone.now()):
                record_event("bundle.withdrawn", f"{self} was withdrawn.", actor=actor, bundle=self.pk)
                return
        self.reload()
        if self.state != BundleState.WITHDRAWN:
            raise IllegalTransition(
                "illegal_transition", f"{self} is {self.state}; only a ready bundle can be withdrawn."
            )

    def discard(self, *, actor: str) -> None:
        """Delete a draft, so that its name and version can be used again. Its blobs are collected later.

        Raises `IllegalTransition` (`illegal_transition`) for a published bundle, `NotFound` (`unknown_bundle`).
        """
        with transaction.atomic():
            # The lock prevents others from publishing the draft before it is deleted.
            draft = Bundle.objects.select_for_update().filter(pk=self.pk, state=BundleState.DRAFT).first()
            if draft is not None:
                record_event("bundle.discarded", f"{draft} was discarded.", actor=actor, bundle=draft.pk)
                draft.delete()
                return
        self.reload()
        raise IllegalTransition("illegal_transition", f"{self} is {self.state}; only a draft can be discarded.")

    def reload(self) -> None:
        """Read the row again after another process won a race. Raises `NotFound` (`unknown_bundle`)."""
        try:
            self.refresh_from_db()
        except Bundle.DoesNotExist:
            raise NotFound("unknown_bundle", f"{self} was discarded.") from None


class BundleFile(models.Model):
    """One file of a manifest: the blob at a path."""

    id = models.BigAutoField(primary_key=True)
    bundle = models.ForeignKey(Bundle, on_delete=models.CASCADE, related_name="files")
    path = models.CharField(max_length=1024)
    sha256 = models.CharField(max_length=SHA256_LENGTH)
    size = models.BigIntegerField()
    mode = models.PositiveSmallIntegerField()

    class Meta:
        ordering = ["path"]
        constraints = [
            models.UniqueConstraint(fields=["bundle", "path"], name="bundle_file_path_once"),
            models.CheckConstraint(condition=Q(sha256__regex=ANCHORED_SHA256_PATTERN), name="bundle_file_sha256"),
            models.CheckConstraint(condition=Q(size__gte=0), name="bundle_file_size_not_negative"),
        ]
        indexes = [
            # Which bundles use a blob: device downloads and garbage collection.
            models.Index(fields=["sha256"], name="bundle_file_blob")
        ]

    def __str__(self) -> str:
        return self.path
