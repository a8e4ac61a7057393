"""Who this device is at which server: registered once, remembered, and harmless to repeat."""

import json
import re
import socket
from dataclasses import asdict, dataclass, replace
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
# What a server gets that knows this key already: it answers 200 whatever the token.
NO_TOKEN = "kxe_none"  # noqa: S105
_TOKEN = re.compile(r"(kxe_[A-Za-z0-9_-]{1,160}?)(?:\.([0-9a-f]{64}))?")


@dataclass(frozen=True, slots=True)
class Enrolment:
    """`root_sha256` names the first trust root, if the token carried one; nothing else is to be trusted then."""

    server: str
    device_id: str
    state: str
    interval_seconds: int
    root_sha256: str = ""
    attributes_version: int = 0
    attributes_sha256: str = ""


def load(state_dir: Path, server: str = "") -> Enrolment | None:
    """What is remembered, if it is of this `server` (or of any). None also for a damaged file: enrol again."""
    try:
        value = read_json(state_dir / FILE, MAX_SIZE)
        known = Enrolment(**value)
        UUID(known.device_id)
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return known if server in {"", known.server} else None


def save(state_dir: Path, known: Enrolment) -> None:
    """Remember it, durably."""
    write_atomically(state_dir / FILE, json.dumps(asdict(known)).encode("ascii"))


def interval_seconds(value: object) -> int:
    """When the server wants to hear from us again, within reason."""
    return min(value, MAX_INTERVAL_SECONDS) if type(value) is int and value >= 1 else DEFAULT_INTERVAL_SECONDS


def split_token(text: str) -> tuple[str, str]:
    """The token as the server knows it, and the sha256 of the first trust root, if there is one."""
    match = _TOKEN.fullmatch(text)
    if match is None:
        raise BadConfiguration("The enrolment token is not of the form kxe_…: copy the whole of it.")
    return match[1], match[2] or ""


def enrol(config: Config, control: ControlPlane) -> Enrolment:
    """Register this device's key, or find out that it is registered, and remember the answer.

    Raises `NotEnrolled` without a token, `Refused` (`bad_token`, `decommissioned`) or `TryLater`.
    """
    known = load(config.state_dir, config.server)
    text = enrolment_token(config)
    if not text and known is None:
        raise NotEnrolled("This device is not enrolled: configure an enrolment token, or run `enrol` with one.")
    token, root_sha256 = split_token(text) if text else (NO_TOKEN, "")
    answer = control.register(
        {
            "token": token,
            "public_key": control.identity.public_key,
            "device_type": config.device_type,
            "hardware": hardware(),
            "name": config.name or socket.gethostname()[:100],
        }
    )
    enrolment = _read(answer, config.server, root_sha256)
    if known is not None:
        enrolment = replace(
            enrolment,
            root_sha256=known.root_sha256 or root_sha256,
            attributes_version=known.attributes_version,
            attributes_sha256=known.attributes_sha256,
        )
    save(config.state_dir, enrolment)
    return enrolment


def _read(answer: dict[str, Any], server: str, root_sha256: str) -> Enrolment:
    try:
        device_id = str(UUID(answer["device_id"]))
    except (KeyError, ValueError, TypeError, AttributeError):
        raise TryLater("The server's answer to the registration makes no sense.") from None
    interval = interval_seconds(answer.get("interval_seconds"))
    return Enrolment(server, device_id, str(answer.get("state", ""))[:32], interval, root_sha256)
