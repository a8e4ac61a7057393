"""Commands of the server become jobs, each exactly once. Pure: everything works on a state of the journal.

A command that makes no sense is acknowledged and logged: offered again and again it would stop those behind it.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from agent.jobs import reports
from agent.jobs.journal import BY_COMMAND, DROPPABLE, KEPT_COMMANDS, Job, JobResult, Kind, State
from agent.manifest import MAX_SIZE, NAME, SHA256

MAX_ID = 2**63 - 1
MAX_ATTEMPT = 32_767
MAX_ACKNOWLEDGED = 1000
# More than a fleet's server ever has for one device; each costs the journal a few hundred bytes.
MAX_WAITING = 100
_WORD = re.compile(r"[a-z0-9_]{1,32}")

log = logging.getLogger(__name__)


class _TooMuch(Exception):
    """There is no room for more work or more reports now."""


def take(state: State, commands: object) -> None:
    """Apply the commands of one heartbeat answer, in order; those that were applied before are only acknowledged.

    When very many jobs or reports wait already, what would add to them is left to be offered again.
    """
    for command in commands if isinstance(commands, Sequence) else ():
        number = command.get("id") if isinstance(command, Mapping) else None
        if type(number) is not int or not 0 < number <= MAX_ID:
            log.error("The server sent a command without a number.")
            continue
        if number not in state.commands:
            try:
                _apply(state, number, str(command.get("kind")), command.get("payload"))
            except _TooMuch:
                continue
            except (KeyError, TypeError, ValueError, RecursionError) as error:
                log.error("Command %d cannot be understood (%s) and is left out.", number, error)
            state.commands = [*state.commands, number][-KEPT_COMMANDS:]
        if number not in state.acknowledge and len(state.acknowledge) < MAX_ACKNOWLEDGED:
            state.acknowledge.append(number)


def acknowledged(state: State, numbers: Sequence[int]) -> None:
    """The server has heard of these."""
    state.acknowledge = [one for one in state.acknowledge if one not in numbers]


def _apply(state: State, number: int, kind: str, payload: Any) -> None:
    if kind == "deploy":
        _deploy(state, payload)
    elif kind == "cancel":
        _cancel(state, payload)
    elif kind == "roll_back":
        product = _match(NAME, payload["product"], "product")
        _need_room(state)
        state.add_urgent(Job(Kind.ROLL_BACK, product, request_id=f"{BY_COMMAND}{number}"))
    else:
        shown = kind if _WORD.fullmatch(kind) else "?"
        log.warning("Command %d is of the kind %s, which this agent does not know; it is left out.", number, shown)


def _deploy(state: State, payload: Any) -> None:
    bundle = payload["bundle"]
    job = Job(
        Kind.DEPLOY,
        product=_match(NAME, bundle["name"], "name"),
        version=_match(NAME, bundle["version"], "version"),
        manifest_sha256=_match(SHA256, bundle["manifest_sha256"], "manifest_sha256"),
        manifest_size=_whole(bundle["manifest_size"], MAX_SIZE, "manifest_size"),
        deployment_id=_uuid(payload["deployment_id"]),
        attempt=_whole(payload["attempt"], MAX_ATTEMPT, "attempt"),
    )
    if job.key in state.ended or state.job(job.key) is not None:
        return
    _need_room(state)
    state.jobs.append(job)
    reports.queue(state, job, "accepted")
    log.info("Deployment %s: %s@%s is to be installed.", job.key, job.product, job.version)


def _cancel(state: State, payload: Any) -> None:
    """Before the point of no return a cancel wins; behind it the job's own end does."""
    deployment_id = _uuid(payload["deployment_id"])
    attempt = _whole(payload["attempt"], MAX_ATTEMPT, "attempt")
    job = state.job(f"{deployment_id}/{attempt}")
    if job is not None:
        if job.stage in DROPPABLE:
            job.is_cancelled = True
        return
    unknown = Job(Kind.DEPLOY, product="", deployment_id=deployment_id, attempt=attempt)
    if unknown.key not in state.ended:
        _need_room(state)
        reports.end_job(state, unknown, JobResult("cancelled", "cancelled", "This device had not begun."))


def _need_room(state: State) -> None:
    if max(len(state.jobs), len(state.outbox)) >= MAX_WAITING:
        raise _TooMuch


def _match(pattern: re.Pattern[str], value: object, what: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"bad {what}")
    return value


def _uuid(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("bad deployment_id")
    return str(UUID(value))


def _whole(value: object, most: int, what: str) -> int:
    if type(value) is not int or not 1 <= value <= most:
        raise ValueError(f"bad {what}")
    return value
