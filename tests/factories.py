"""Plain functions that make what tests need."""

import secrets
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.utils import timezone

from devices.models import Device, EnrolmentToken, Group
from kernex.tokens.models import ApiToken


def make_user(username: str = "alice") -> User:
    return User.objects.get_or_create(username=username)[0]


def make_token(user: User, role: str) -> str:
    """The secret of a new API token."""
    return ApiToken.issue(user, role, "a test")[1]


def make_group(name: str = "lab", **fields: Any) -> Group:
    return Group.objects.get_or_create(name=name, defaults=fields)[0]


def make_enrolment_token(**fields: Any) -> tuple[EnrolmentToken, str]:
    """A usable enrolment token and its string."""
    usual: dict[str, Any] = {
        "name": "a token",
        "expires_at": timezone.now() + timedelta(hours=1),
        "accepts_at_once": True,
        "actor": "operator:alice",
    }
    usual |= fields
    if "group" not in usual:
        usual["group"] = make_group()
    return EnrolmentToken.issue(**usual)


def make_device(**fields: Any) -> Device:
    """An accepted device of the group `lab`."""
    usual: dict[str, Any] = {
        "public_key": secrets.token_urlsafe(32)[:42] + "A",
        "device_type": "edge",
        "state": "accepted",
    }
    usual |= fields
    if "group" not in usual:
        usual["group"] = make_group()
    return Device.objects.create(**usual)
