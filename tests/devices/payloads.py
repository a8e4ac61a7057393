"""Payloads of commands, for tests."""

from datetime import UTC, datetime
from uuid import UUID

from devices.models import BundleReference, CancelPayload, DeployPayload, SendLogsPayload

DEPLOYMENT_ID = UUID("0b8d6f0a-53c1-4a53-8b33-94c1f5f3a2d7")
DEADLINE = datetime(2026, 1, 2, tzinfo=UTC)


def deploy_payload(attempt: int = 1, *, name: str = "vad") -> DeployPayload:
    bundle = BundleReference(name, "1.0.0", "ab" * 32, 171)
    return DeployPayload(DEPLOYMENT_ID, attempt, bundle, DEADLINE)


def cancel_payload(attempt: int = 1) -> CancelPayload:
    return CancelPayload(DEPLOYMENT_ID, attempt)


def logs_payload() -> SendLogsPayload:
    return SendLogsPayload(DEPLOYMENT_ID, 1024)
