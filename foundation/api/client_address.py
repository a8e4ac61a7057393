"""The client address of a request."""

from ipaddress import ip_address

from django.conf import settings
from django.http import HttpRequest


def client_address(request: HttpRequest) -> str:
    """Return the client's IP address. X-Forwarded-For is used only behind a trusted proxy.

    Each proxy appends the address that it sees. The client can forge all entries before those of our proxies.
    """
    if settings.TRUSTED_PROXY:
        addresses = [address.strip() for address in str(request.META.get("HTTP_X_FORWARDED_FOR", "")).split(",")]
        address = addresses[-settings.TRUSTED_PROXY_HOPS :][0]
        if _is_address(address):
            return address
    return str(request.META.get("REMOTE_ADDR", ""))


def is_from_this_machine(request: HttpRequest) -> bool:
    """Return whether the request comes from a process on this machine, and not through a proxy."""
    forwarded = {"HTTP_X_FORWARDED_FOR", "HTTP_FORWARDED", "HTTP_X_REAL_IP"} & request.META.keys()
    if settings.TRUSTED_PROXY or forwarded:
        return False
    address = str(request.META.get("REMOTE_ADDR", ""))
    return _is_address(address) and ip_address(address).is_loopback


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
