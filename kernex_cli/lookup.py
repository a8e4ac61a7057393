"""Find devices and deployments by name or by the first digits of an id.

The admin and the command line print the first 8 hex digits of an id. They are accepted wherever an id is accepted, if
only one id begins with them. A device's name takes precedence over an id.
"""

import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kernex_cli.client import PAGE_SIZE, Client
from kernex_cli.deployment_resources import Deployment
from kernex_cli.errors import BadUsage, CommandFailed, Refused
from kernex_cli.formatting import absolute_time, short_id_length
from kernex_cli.resources import Device
from kernex_cli.suggestions import did_you_mean

ID_PREFIX = re.compile(r"[0-9a-f]{4,32}")
SHOWN_CANDIDATES = 5
MAX_QUERY_LENGTH = 100


def find_device(client: Client, text: str) -> str:
    """Return the id of the device that `text` names: its name, its id or the first digits of its id.

    Raises: `BadUsage` unless exactly one device matches.
    """
    if is_full_id(text):
        return str(uuid.UUID(text))
    prefix = text.replace("-", "").lower()
    devices = [Device.parse(document) for document in client.pages("/devices", {"q": _query(text)})]
    named = [device for device in devices if device.name == text]
    matching = [device for device in devices if ID_PREFIX.fullmatch(prefix) and has_prefix(device.id, prefix)]
    candidates = named or matching
    if len(candidates) == 1:
        return candidates[0].id
    if not candidates:
        names = [document["name"] for document in client.pages("/devices", {}, PAGE_SIZE)]
        raise BadUsage(f"No device has the name or id {text!r}.{did_you_mean(text, filter(None, names))}")
    relation = "have the name" if named else "have an id that begins with"
    length = short_id_length(device.id for device in candidates)
    lines = [f"{device.id[:length]}  {device.name}, group {device.group}, {device.state}" for device in candidates]
    raise BadUsage(_ambiguous(f"{len(candidates)} devices {relation} {text!r}", lines))


def find_deployment(client: Client, prefix: str) -> str:
    """Return the id of the deployment whose id begins with `prefix`, hex digits without hyphens.

    Raises: `BadUsage` unless exactly one deployment matches.
    """
    if is_full_id(prefix):
        return str(uuid.UUID(prefix))
    deployments = [Deployment.parse(document) for document in client.pages("/deployments", {})]
    candidates = [deployment for deployment in deployments if has_prefix(deployment.id, prefix)]
    if len(candidates) == 1:
        return candidates[0].id
    if not candidates:
        raise BadUsage(f"No deployment has an id that begins with {prefix!r}: `kernex deployments` lists them.")
    length = short_id_length(deployment.id for deployment in candidates)
    lines = [f"{each.id[:length]}  {each.bundle}, created {absolute_time(each.created_at)}" for each in candidates]
    raise BadUsage(_ambiguous(f"{len(candidates)} deployments have an id that begins with {prefix!r}", lines))


def is_full_id(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def has_prefix(full_id: str, prefix: str) -> bool:
    """Return True if the id's hex digits begin with `prefix`."""
    return full_id.replace("-", "").startswith(prefix)


@contextmanager
def suggestions_for(client: Client, *, groups: Sequence[str] = (), bundle: str = "") -> Iterator[None]:
    """Add similar names to the server's error if the group or the bundle does not exist."""
    try:
        yield
    except Refused as error:
        suggestion = _similar_names(client, error, groups, bundle)
        if not suggestion:
            raise
        explained = Refused(error.status, "", f"{error}{suggestion}", error.error)
        explained.code = error.code
        raise explained from None


def check_group(client: Client, name: str) -> None:
    """Raise `BadUsage` if there is no group of that name."""
    names = [document["name"] for document in client.pages("/groups", {})]
    if name not in names:
        raise BadUsage(f"There is no group {name!r}.{did_you_mean(name, names)}")


def _similar_names(client: Client, error: Refused, groups: Sequence[str], bundle: str) -> str:
    """Return a suggestion, or nothing if the error is about something else or the names cannot be read."""
    try:
        if error.code == "unknown_bundle":
            return _similar_bundles(client, bundle)
        if error.code == "unknown_groups" or "group" in _refused_fields(error):
            return _similar_groups(client, groups)
    except CommandFailed:
        pass  # the server's own error says what is wrong
    return ""


def _refused_fields(error: Refused) -> list[str]:
    names = error.error.get("fields")
    return list(names) if isinstance(names, dict) else []


def _similar_groups(client: Client, groups: Sequence[str]) -> str:
    names = [document["name"] for document in client.pages("/groups", {})]
    return "".join(did_you_mean(group, names) for group in groups if group not in names)


def _similar_bundles(client: Client, bundle: str) -> str:
    """Suggest other versions of the same name, otherwise other names."""
    name = bundle.partition("@")[0]
    documents = client.pages("/bundles", {"name": name}, PAGE_SIZE) or client.pages("/bundles", {}, PAGE_SIZE)
    return did_you_mean(bundle, [f"{document['name']}@{document['version']}" for document in documents])


def _query(text: str) -> str:
    """Return the search text: the server compares full ids, which have a hyphen after 8 digits."""
    return text[:8] if ID_PREFIX.fullmatch(text.lower()) else text[:MAX_QUERY_LENGTH]


def _ambiguous(sentence: str, lines: Sequence[str]) -> str:
    more = [f"… and {len(lines) - SHOWN_CANDIDATES} more"] if len(lines) > SHOWN_CANDIDATES else []
    shown = "\n".join(f"  {line}" for line in [*lines[:SHOWN_CANDIDATES], *more])
    return f"{sentence}: give more of the id.\n{shown}"
