"""Kernex's checks for `manage.py check --deploy`."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from django.apps import AppConfig
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.core.files.storage import FileSystemStorage, storages
from django.http.request import validate_host


@register(Tags.security, deploy=True)
def storage_is_persistent_and_shared(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Find bundles on a local disk that App Platform deletes, or that other instances cannot read."""
    if not isinstance(storages["default"], FileSystemStorage):
        return []
    hint = "Keep bundles in S3-compatible storage."
    messages: list[CheckMessage] = []
    if settings.ON_APP_PLATFORM:
        messages.append(Error("App Platform loses its local disk at each deployment.", hint=hint, id="kernex.E001"))
    if settings.INSTANCES > 1:
        message = f"KERNEX_INSTANCES is {settings.INSTANCES}, but a local disk is not shared between instances."
        messages.append(Error(message, hint=hint, id="kernex.E002"))
    return messages


@register(Tags.security, deploy=True)
def storage_is_reachable(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Find storage without TLS: devices use it only if it is on the same host as the control plane."""
    if not settings.STORAGE_BUCKET or settings.BROWSER_STORAGE.startswith("https://"):
        return []
    hint = "Set STORAGE_ENDPOINT_URL, or also STORAGE_PUBLIC_ENDPOINT_URL, to an https:// URL."
    message = f"Devices and publishers are sent to {settings.BROWSER_STORAGE}: not https."
    return [Warning(message, hint=hint, id="kernex.W005")]


@register(Tags.security, deploy=True)
def address_is_reachable(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """Find settings with which devices and browsers could not reach this control plane, or only without TLS."""
    messages: list[CheckMessage] = []
    if not settings.SECURE:
        hint = "Set PUBLIC_URL to the https:// URL of the proxy or platform."
        messages.append(Warning(f"PUBLIC_URL is {settings.PUBLIC_URL}: not https.", hint=hint, id="kernex.W001"))
    if settings.SECURE and not settings.TRUSTED_PROXY:
        hint = (
            "Set TRUSTED_PROXY=true if the proxy sets X-Forwarded-Proto itself; otherwise all requests are redirected."
        )
        messages.append(
            Warning("TLS terminates in front of this process, but no proxy is trusted.", hint=hint, id="kernex.W002")
        )
    if "*" in settings.ALLOWED_HOSTS:
        hint = "Name the hosts, separated by commas."
        messages.append(Warning("ALLOWED_HOSTS allows every host.", hint=hint, id="kernex.W003"))
    host = urlsplit(settings.PUBLIC_URL).hostname or ""
    if not validate_host(f"[{host}]" if ":" in host else host, settings.ALLOWED_HOSTS):
        hint = f"Add {host} to ALLOWED_HOSTS; otherwise every request to PUBLIC_URL is refused."
        messages.append(Warning("ALLOWED_HOSTS lacks the host of PUBLIC_URL.", hint=hint, id="kernex.W004"))
    return messages
