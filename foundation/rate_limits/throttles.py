"""Limits of the API as DRF's throttles. A refused request gets 429 `throttled` with `Retry-After`.

They count after authentication, so no client can use up another one's limit. Heartbeats bypass them, because their
own statement limits them.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from django.conf import settings
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from foundation.accounts.models import ApiToken
from foundation.api.client_address import client_address
from foundation.rate_limits.models import seconds_to_wait

if TYPE_CHECKING:  # DRF loads this module while it loads its own views
    from rest_framework.views import APIView


class RateThrottle(BaseThrottle, ABC):
    """Base class: a subclass names its setting (requests per minute; 0 means no limit) and the key of a request."""

    setting: ClassVar[str]

    @abstractmethod
    def key(self, request: Request, view: "APIView") -> str | None:
        """Return the key that a request counts against, at most 100 characters; None if it is not limited."""

    def allow_request(self, request: Request, view: "APIView") -> bool:
        self.seconds = 0
        per_minute: int = getattr(settings, self.setting)
        key = self.key(request, view) if per_minute else None
        if key is not None:
            self.seconds = seconds_to_wait(key, per_minute)
        return self.seconds == 0

    def wait(self) -> float:
        return self.seconds


class TokenThrottle(RateThrottle):
    """Per API token: the default of all operators' endpoints."""

    setting = "TOKEN_REQUESTS_PER_MINUTE"

    def key(self, request: Request, view: "APIView") -> str | None:
        return f"token:{request.auth.pk}" if isinstance(request.auth, ApiToken) else None


class DeviceThrottle(RateThrottle):
    """Per device: `request.user` is the device that signed the request."""

    setting = "DEVICE_REQUESTS_PER_MINUTE"

    def key(self, request: Request, view: "APIView") -> str | None:
        return f"device:{request.user.pk}"


class ClientAddressThrottle(RateThrottle):
    """Per client address, for registrations, whose sender is not authenticated yet."""

    setting = "REGISTRATIONS_PER_MINUTE"

    def key(self, request: Request, view: "APIView") -> str | None:
        return f"address:{client_address(request)}"
