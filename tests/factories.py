"""Plain functions that make what tests need."""

from django.contrib.auth.models import User

from kernex.tokens.models import ApiToken


def make_user(username: str = "alice") -> User:
    return User.objects.get_or_create(username=username)[0]


def make_token(user: User, role: str) -> str:
    """The secret of a new API token."""
    return ApiToken.issue(user, role, "a test")[1]
