"""The enrolment of this device at a server. It is idempotent, because the server recognises the device's key."""

import json
import re
import socket
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from agent.atomic_files import read_json, write_atomically
from agent.config import Config, enrolment_token
from agent.errors import BadConfiguration, NotEnrolled, TryLater
from agent.machine import hardware
from agent.server.api import ControlPlane

FILE = "device.json"
MAX_SIZE = 64 * 1024
DEFAULT_INTERVAL_SECONDS = 60
MAX_INTERVAL_SECONDS = 86_400
# Sent if this key is already registered at the server, which then ignores the token.
NO_TOKEN = "kxe_none"  # noqa: S105
_TOKEN = re.compile(r"kxe_[A-Za-z0-9_-]{1,160}")


@dataclass(frozen=True, slots=True)
class Enrolment:
    """The server's data about this device, and the version and sha256 of the attributes that it has received."""

    server: str
    device_id: str
    state: str
    interval_seconds: int
    attributes_version: int = 0
    attributes_sha256: str = ""


def load_enrolment(state_dir: Path, server: str = "") -> Enrolment | None:
    """Return the saved enrolment at `server`, or at any server if it is empty.

    Return None if the device is not enrolled there or the file is damaged; the device then enrols again.
    """
    try:
        value = read_json(state_dir / FILE, MAX_SIZE)
        enrolment = Enrolment(
            **{member.name: value[member.name] for member in fields(Enrolment) if member.name in value}
        )
        UUID(enrolment.device_id)
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return enrolment if server in {"", enrolment.server} else None


def save_enrolment(state_dir: Path, enrolment: Enrolment) -> None:
    """Write the enrolment durably. Raises `OSError`."""
    write_atomically(state_dir / FILE, json.dumps(asdict(enrolment)).encode("ascii"))


def valid_interval_seconds(value: object) -> int:
    """Return the heartbeat interval that the server sent, at most one day, or the default if it is not valid."""
    return min(value, MAX_INTERVAL_SECONDS) if type(value) is int and value >= 1 else DEFAULT_INTERVAL_SECONDS


def enrol(config: Config, control: ControlPlane) -> Enrolment:
    """Register this device's key and save the response. Idempotent.

    Raises:
        NotEnrolled: This device is not enrolled, and no token is configured.
        BadConfiguration: The token is not valid, or its file cannot be read.
        Refused: `bad_token` or `decommissioned`.
        TryLater: The server cannot be reached or is busy.
        OSError: The response cannot be saved.
    """
    saved = load_enrolment(config.state_dir, config.server)
    token = enrolment_token(config)
    if not token and saved is None:
        raise NotEnrolled("This device is not enrolled: configure an enrolment token, or run `enrol` with a token.")
    if token and not _TOKEN.fullmatch(token):
        raise BadConfiguration("The enrolment token must have the form kxe_…; copy the complete token.")
    response = control.register(
        {
            "token": token or NO_TOKEN,
            "public_key": control.identity.public_key,
            "device_type": config.device_type,
            "hardware": hardware(),
            "name": config.name or socket.gethostname()[:100],
        }
    )
    enrolment = _from_response(response, config.server)
    if saved is not None:
        enrolment = replace(
            enrolment, attributes_version=saved.attributes_version, attributes_sha256=saved.attributes_sha256
        )
    save_enrolment(config.state_dir, enrolment)
    return enrolment


def _from_response(response: dict[str, Any], server: str) -> Enrolment:
    try:
        device_id = str(UUID(response["device_id"]))
    except (KeyError, ValueError, TypeError, AttributeError):
        raise TryLater("The server's response to the registration has no valid device id.") from None
    interval_seconds = valid_interval_seconds(response.get("interval_seconds"))
    return Enrolment(server, device_id, str(response.get("state", ""))[:32], interval_seconds)
