"""Error reports to the Sentry project of SENTRY_DSN. Without that setting, nothing is reported."""

import logging
from typing import Any

import sentry_sdk
from django.conf import settings
from sentry_sdk.integrations.django import DjangoIntegration
from sentry_sdk.integrations.logging import LoggingIntegration

from foundation.logs import without_secrets

# The fields of a request that a report keeps: no headers, no cookies, no body.
REPORTED_FIELDS = {"method", "url"}


def report_defects() -> None:
    """Start reporting errors. Each process calls this once, after it has loaded the settings."""
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
    """Return the report without fields that could hold a secret."""
    if "request" in event:
        event["request"] = {name: value for name, value in event["request"].items() if name in REPORTED_FIELDS}
    for exception in event.get("exception", {}).get("values", []):
        exception["value"] = without_secrets(str(exception.get("value") or ""))
    return event
