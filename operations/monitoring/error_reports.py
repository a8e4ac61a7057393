"""Defects reported to Sentry, where SENTRY_DSN names a project. Without it this does nothing."""

import logging
from typing import Any

import sentry_sdk
from django.conf import settings
from sentry_sdk.integrations.django import DjangoIntegration
from sentry_sdk.integrations.logging import LoggingIntegration

from foundation.logs import without_secrets

# What a report keeps of a request: neither headers nor cookies nor a body.
KEPT = {"method", "url"}


def report_defects() -> None:
    """Called once by each kind of process, when the settings are there."""
    if not settings.SENTRY_DSN:
        return
    sentry_sdk.init(
        dsn=settings.SENTRY_DSN,
        release=f"kernex@{settings.VERSION}",
        max_request_body_size="never",
        include_local_variables=False,
        integrations=[DjangoIntegration(), LoggingIntegration(level=None, event_level=logging.ERROR)],
        before_send=scrubbed,
        before_breadcrumb=lambda crumb, hint: None,
    )


def scrubbed(event: Any, hint: dict[str, Any]) -> Any:
    """The report without what could be a secret."""
    if "request" in event:
        event["request"] = {name: value for name, value in event["request"].items() if name in KEPT}
    for exception in event.get("exception", {}).get("values", []):
        exception["value"] = without_secrets(str(exception.get("value") or ""))
    return event
