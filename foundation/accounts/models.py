"""API tokens: the credentials of scripts and of the command line. Each belongs to a person."""

import hashlib
import secrets
import uuid
from datetime import datetime
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Permission, User
from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone

from foundation.errors import BadRequest
from foundation.events.models import record_event

PREFIX = "kxa_"


class Role(models.TextChoices):
    VIEWER = "viewer", "viewer"
    OPERATOR = "operator", "operator"
    PUBLISHER = "publisher", "publisher"
    ADMIN = "admin", "admin"


def digest(secret: str) -> str:
    """Return the sha256 under which a random secret is stored."""
    return hashlib.sha256(secret.encode()).hexdigest()


def may_have_role(user: User, role: str) -> bool:
    """Return whether a person currently has the permissions that an API token of this role needs."""
    if user.is_superuser:
        return bool(user.is_active)
    needed = settings.ROLE_PERMISSIONS.get(role)
    return needed is not None and user.has_perms(needed)


def roles_of(user: User) -> list[Role]:
    """Return the roles that a person's API tokens may have."""
    return [role for role in Role if may_have_role(user, role)]


def granted_permissions(user: User) -> set[tuple[str, str]]:
    """Return the permissions of a person and of their groups as (app, codename), even if the person is inactive."""
    granted = Permission.objects.filter(Q(user=user) | Q(group__user=user))
    return set(granted.values_list("content_type__app_label", "codename"))


class ApiTokenQuerySet(models.QuerySet["ApiToken"]):
    def usable(self) -> "ApiTokenQuerySet":
        """Tokens that are neither revoked nor expired, and whose owner may sign in."""
        return self.filter(
            Q(expires_at__isnull=True) | Q(expires_at__gt=timezone.now()), revoked_at__isnull=True, user__is_active=True
        )

    def for_secret(self, secret: str) -> "ApiTokenQuerySet":
        return self.filter(secret_sha256=digest(secret))


class ApiToken(models.Model):
    """A bearer token of one person with one role. The secret is shown once; the row contains only its sha256.

    A token never has more permissions than its owner currently has: each request checks `is_within_rights`.
    """

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

    class Meta:
        verbose_name = "API token"

    def __str__(self) -> str:
        return f"{self.name} ({self.role})"

    @property
    def actor(self) -> str:
        """The actor that events record for requests with this token."""
        return f"operator:{self.user.get_username()}"

    @classmethod
    def issue(
        cls, user: Any, role: str, name: str, expires_at: datetime | None = None, *, actor: str
    ) -> tuple["ApiToken", str]:
        """Create a token. Return the row and the secret, which is not stored.

        Raises `BadRequest` (`already_expired`) if `expires_at` is not in the future.
        """
        if expires_at is not None and expires_at <= timezone.now():
            raise BadRequest("already_expired", "The expiry is in the past: choose a time in the future.")
        secret = PREFIX + secrets.token_urlsafe(32)
        with transaction.atomic():
            token = cls.objects.create(
                user=user, role=role, name=name, secret_sha256=digest(secret), expires_at=expires_at
            )
            record_event(
                "api_token.issued", f"API token {token} was issued for {user}.", actor=actor, token=str(token.pk)
            )
        return token, secret

    def revoke(self, actor: str) -> bool:
        """Revoke the token permanently. Return False if it was revoked before."""
        with transaction.atomic():
            unrevoked = ApiToken.objects.filter(pk=self.pk, revoked_at__isnull=True)
            if not unrevoked.update(revoked_at=timezone.now()):
                return False
            record_event(
                "api_token.revoked", f"API token {self} of {self.user} was revoked.", actor=actor, token=str(self.pk)
            )
        return True

    def is_within_rights(self) -> bool:
        """Return whether the owner currently has the permissions of the role. Two queries, or none for a superuser."""
        return may_have_role(self.user, self.role)
