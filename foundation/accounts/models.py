"""API tokens: what a person's script or command line proves itself with."""

import hashlib
import secrets
import uuid
from datetime import datetime

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

PREFIX = "kxa_"


class Role(models.TextChoices):
    VIEWER = "viewer", "viewer"
    OPERATOR = "operator", "operator"
    PUBLISHER = "publisher", "publisher"
    APPROVER = "approver", "approver"
    ADMIN = "admin", "admin"


def digest(secret: str) -> str:
    """The sha256 under which a secret of full entropy is kept."""
    return hashlib.sha256(secret.encode()).hexdigest()


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    def usable(self) -> "ApiTokenQuerySet":
        """Neither revoked nor expired, and of a user who may still log in."""
        return self.filter(
            Q(expires_at__isnull=True) | Q(expires_at__gt=timezone.now()), revoked_at__isnull=True, user__is_active=True
        )

    def for_secret(self, secret: str) -> "ApiTokenQuerySet":
        return self.filter(secret_sha256=digest(secret))


class ApiToken(models.Model):
    """A bearer token of one user with one role. The secret is shown once; the row keeps its sha256."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    name = models.CharField(max_length=100)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    role = models.CharField(max_length=16, choices=Role)
    secret_sha256 = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    objects = ApiTokenQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.name} ({self.role})"

    @property
    def actor(self) -> str:
        """How events name whoever uses this token."""
        return f"operator:{self.user.get_username()}"

    @classmethod
    def issue(cls, user: object, role: str, name: str, expires_at: datetime | None = None) -> tuple["ApiToken", str]:
        """Make a token. Returns the row and the secret, which is nowhere kept in clear."""
        secret = PREFIX + secrets.token_urlsafe(32)
        return cls.objects.create(
            user=user, role=role, name=name, secret_sha256=digest(secret), expires_at=expires_at
        ), secret

    def revoke(self) -> bool:
        """End the token. False if somebody already did."""
        unrevoked = ApiToken.objects.filter(pk=self.pk, revoked_at__isnull=True)
        return bool(unrevoked.update(revoked_at=timezone.now()))
