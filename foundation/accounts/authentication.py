"""Authentication of operators' programs with `Authorization: Bearer kxa_…`."""

from datetime import timedelta
from typing import Any, cast

from django.db.models import Q
from django.utils import timezone
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from foundation.accounts.models import ApiToken

LAST_USED_EVERY = timedelta(minutes=5)


def token_of(request: Request) -> ApiToken:
    """Return the API token of a request that `BearerToken` authenticated."""
    return cast(ApiToken, request.auth)


class BearerToken(BaseAuthentication):
    """Sets `request.user` to the token's owner and `request.auth` to the `ApiToken`."""

    def authenticate(self, request: Request) -> tuple[object, ApiToken] | None:
        words = get_authorization_header(request).split()
        if not words or words[0].lower() != b"bearer":
            return None
        if len(words) != 2:
            raise AuthenticationFailed("The Authorization header must be `Bearer` followed by one token.", "bad_token")
        secret = words[1].decode("ascii", errors="replace")
        token = ApiToken.objects.usable().for_secret(secret).select_related("user").first()
        if token is None:
            raise AuthenticationFailed("The API token is unknown, expired or revoked.", "bad_token")
        self.update_last_used(token)
        return token.user, token

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="kernex"'

    def update_last_used(self, token: ApiToken) -> None:
        """Store the time of use, at most every five minutes."""
        now = timezone.now()
        stale = Q(last_used_at__isnull=True) | Q(last_used_at__lt=now - LAST_USED_EVERY)
        if token.last_used_at is None or token.last_used_at < now - LAST_USED_EVERY:
            ApiToken.objects.filter(stale, pk=token.pk).update(last_used_at=now)


class ApiTokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """The API token in the OpenAPI document."""

    target_class = "foundation.accounts.authentication.BearerToken"
    name = "apiToken"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "description": "An API token: kxa_…"}
