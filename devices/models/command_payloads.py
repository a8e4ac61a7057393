"""What each kind of command carries, as docs/device-api.md describes it.

Code that queues a command builds its payload here, so that the contract with devices is in one place on the server.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from devices.models.command import CommandKind
from foundation.api.times import format_time


@dataclass(frozen=True, slots=True)
class BundleReference:
    """Names one bundle and the manifest that a device has to fetch for it. `manifest_size` is in bytes."""

    name: str
    version: str
    manifest_sha256: str
    manifest_size: int


@dataclass(frozen=True, slots=True)
class DeployPayload:
    """Install `bundle` as attempt `attempt` of a deployment, before `deadline_at`."""

    kind: ClassVar[CommandKind] = CommandKind.DEPLOY

    deployment_id: UUID
    attempt: int
    bundle: BundleReference
    deadline_at: datetime

    def as_json(self) -> dict[str, Any]:
        return {
            "deployment_id": str(self.deployment_id),
            "attempt": self.attempt,
            "bundle": {
                "name": self.bundle.name,
                "version": self.bundle.version,
                "manifest_sha256": self.bundle.manifest_sha256,
                "manifest_size": self.bundle.manifest_size,
            },
            "deadline_at": format_time(self.deadline_at),
        }


@dataclass(frozen=True, slots=True)
class CancelPayload:
    """Stop attempt `attempt` of a deployment."""

    kind: ClassVar[CommandKind] = CommandKind.CANCEL

    deployment_id: UUID
    attempt: int

    def as_json(self) -> dict[str, Any]:
        return {"deployment_id": str(self.deployment_id), "attempt": self.attempt}


@dataclass(frozen=True, slots=True)
class SendLogsPayload:
    """Send the device's logs for one log request, at most `max_size` bytes."""

    kind: ClassVar[CommandKind] = CommandKind.SEND_LOGS

    request_id: UUID
    max_size: int

    def as_json(self) -> dict[str, Any]:
        return {"request_id": str(self.request_id), "max_size": self.max_size}
