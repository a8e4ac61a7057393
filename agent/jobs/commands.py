"""Commands from the server. Each is accepted once and ends with an outcome. This module does no I/O.

`HANDLERS` maps each kind of command to its handler. A handler reads the payload and changes the journal's state. It
returns the outcome of the command, or None if the outcome follows later.
"""

import logging
import re
from collections.abc import Callable, Collection
from typing import Any
from uuid import UUID

from agent.jobs import reports
from agent.jobs.state import DROPPABLE, CommandOutcome, Job, JobKind, JobResult, LogRequest, Outcome, State
from agent.log import sanitize
from agent.manifest import MAX_SIZE, NAME, SHA256

MAX_ID = 2**63 - 1
MAX_ATTEMPT = 32_767
MAX_ACKNOWLEDGED = 1000
MAX_OUTCOMES = 100
MAX_OUTCOME_MESSAGE = 500
KEPT_COMMANDS = 2000
# Limits on waiting entries, which take up space in the journal. Over a limit, new commands are not accepted, and the
# server sends them again.
MAX_WAITING = 100
MAX_WAITING_OUTCOMES = 200
MAX_LOG_REQUESTS = 10
MAX_LOG_SIZE = 4 * 1024 * 1024

_KIND = re.compile(r"[a-z0-9_]{1,32}")

log = logging.getLogger(__name__)


class MalformedCommand(ValueError):
    """The payload of a command is not valid for its kind."""


class TooManyWaiting(Exception):
    """Too many jobs, reports or log requests are waiting, so the server has to send the command again."""


def accept(state: State, commands: object) -> None:
    """Accept the commands of a heartbeat response, in order.

    Accepting a command is idempotent. Invalid and unknown commands are acknowledged as well, so that the server does
    not send them again: they end with the outcome `failed` or `unknown_command`.
    """
    for command in commands if isinstance(commands, list) else []:
        command_id = command.get("id") if isinstance(command, dict) else None
        if type(command_id) is not int or not 0 < command_id <= MAX_ID:
            log.error("The server sent a command without a valid id.")
            continue
        if command_id not in state.commands:
            try:
                _accept_new(state, command_id, command.get("kind"), command.get("payload"))
            except TooManyWaiting:
                continue
            state.commands = [*state.commands, command_id][-KEPT_COMMANDS:]
        if command_id not in state.acknowledge and len(state.acknowledge) < MAX_ACKNOWLEDGED:
            state.acknowledge.append(command_id)


def confirm(state: State, acknowledged: Collection[int], outcome_ids: Collection[int]) -> None:
    """Remove the acknowledgements and outcomes that an accepted heartbeat delivered."""
    state.acknowledge = [command_id for command_id in state.acknowledge if command_id not in acknowledged]
    state.command_outcomes = [outcome for outcome in state.command_outcomes if outcome.id not in outcome_ids]


def finish(state: State, command_id: int, result: Outcome, message: str = "") -> None:
    """Record the outcome of a command. Heartbeats repeat it until one of them is accepted."""
    text = sanitize(message)[:MAX_OUTCOME_MESSAGE]
    state.command_outcomes.append(CommandOutcome(command_id, result, text))


def _accept_new(state: State, command_id: int, kind: object, payload: Any) -> None:
    """Accept a command whose id is new. Raises `TooManyWaiting`."""
    if len(state.command_outcomes) >= MAX_WAITING_OUTCOMES:
        raise TooManyWaiting
    handler = HANDLERS.get(kind) if isinstance(kind, str) else None
    if handler is None:
        kind_text = kind if isinstance(kind, str) and _KIND.fullmatch(kind) else "?"
        log.warning("Command %d has the kind %s, which this agent does not support.", command_id, kind_text)
        finish(state, command_id, Outcome.UNKNOWN_COMMAND, f"This agent does not support the command {kind_text}.")
        return
    try:
        result = handler(state, command_id, payload)
    except MalformedCommand as error:
        log.error("Command %d is not valid: %s", command_id, error)
        finish(state, command_id, Outcome.FAILED, f"The command is not valid: {error}")
        return
    if result is not None:
        finish(state, command_id, result)


def _deploy(state: State, _: int, payload: Any) -> Outcome:
    """Queue the job that installs a bundle. The command is done when the journal contains the job or its end."""
    bundle = _field(payload, "bundle")
    job = Job(
        JobKind.DEPLOY,
        product=_match(bundle, "name", NAME),
        version=_match(bundle, "version", NAME),
        manifest_sha256=_match(bundle, "manifest_sha256", SHA256),
        manifest_size=_integer(bundle, "manifest_size", MAX_SIZE),
        deployment_id=_uuid(payload, "deployment_id"),
        attempt=_integer(payload, "attempt", MAX_ATTEMPT),
    )
    if job.key not in state.ended and state.job(job.key) is None:
        _check_waiting(state)
        state.jobs.append(job)
        reports.queue(state, job, "accepted")
        log.info("Deployment %s: %s@%s will be installed.", job.key, job.product, job.version)
    return Outcome.DONE


def _cancel(state: State, _: int, payload: Any) -> Outcome:
    """Cancel a job that has not passed the point of no return. Otherwise, the installation continues."""
    deployment_id = _uuid(payload, "deployment_id")
    attempt = _integer(payload, "attempt", MAX_ATTEMPT)
    job = state.job(f"{deployment_id}/{attempt}")
    if job is not None:
        job.is_cancelled = job.is_cancelled or job.stage in DROPPABLE
        return Outcome.DONE
    unknown = Job(JobKind.DEPLOY, product="", deployment_id=deployment_id, attempt=attempt)
    if unknown.key not in state.ended:
        _check_waiting(state)
        reports.end_job(state, unknown, JobResult("cancelled", "cancelled", "This device had not started."))
    return Outcome.DONE


def _send_logs(state: State, command_id: int, payload: Any) -> None:
    """Queue a log request. The command ends when the last batch is accepted or the server ends the request."""
    request_id = _uuid(payload, "request_id")
    max_size = _integer(payload, "max_size", MAX_LOG_SIZE)
    if len(state.log_requests) >= MAX_LOG_REQUESTS:
        raise TooManyWaiting
    state.log_requests.append(LogRequest(command_id, request_id, max_size))
    log.info("The server requested logs of at most %d bytes.", max_size)


# Returns the outcome of a command, or None if it follows later.
Handler = Callable[[State, int, Any], Outcome | None]
HANDLERS: dict[str, Handler] = {"deploy": _deploy, "cancel": _cancel, "send_logs": _send_logs}


def _check_waiting(state: State) -> None:
    if max(len(state.jobs), len(state.outbox)) >= MAX_WAITING:
        raise TooManyWaiting


def _field(payload: Any, name: str) -> Any:
    if not isinstance(payload, dict) or name not in payload:
        raise MalformedCommand(f"`{name}` is required.")
    return payload[name]


def _match(payload: Any, name: str, pattern: re.Pattern[str]) -> str:
    value = _field(payload, name)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise MalformedCommand(f"`{name}` is not valid.")
    return value


def _uuid(payload: Any, name: str) -> str:
    try:
        return str(UUID(_field(payload, name)))
    except (ValueError, TypeError, AttributeError):
        raise MalformedCommand(f"`{name}` must be a UUID.") from None


def _integer(payload: Any, name: str, maximum: int) -> int:
    value = _field(payload, name)
    if type(value) is not int or not 1 <= value <= maximum:
        raise MalformedCommand(f"`{name}` must be an integer from 1 to {maximum}.")
    return value
