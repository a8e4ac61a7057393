"""One health check of a release: its command, its health file or its URL."""

import math
import time
from collections.abc import Callable

from agent.config import Config
from agent.errors import TryLater
from agent.log import sanitize
from agent.manifest_parts import Health, HealthURL
from agent.programs.execution import CommandContext, run
from agent.programs.health_reports import MAX_VERDICT_SIZE, HealthReport, read_body, read_file
from agent.programs.logs import failure_message
from agent.programs.shim import CannotStart
from agent.server.transport import Stream, Transport

COMMAND_TIMEOUT_SECONDS = 60
URL_TIMEOUT_SECONDS = 10
FILE_INTERVAL_SECONDS = 1
MAX_MESSAGE_LENGTH = 500


def interval_seconds(health: Health) -> int:
    """Return the time between two checks."""
    return FILE_INTERVAL_SECONDS if health.file else health.interval_seconds


def check(health: Health, context: CommandContext, is_stopped: Callable[[], bool]) -> HealthReport | None:
    """Check a release once.

    None means that there is no result: the check was stopped, or the health file does not exist or is not completely
    written.
    """
    if health.file:
        return read_file(context.state_directory / health.file)
    if health.http is not None:
        return check_url(health.http, URL_TIMEOUT_SECONDS)
    return _check_command(health.command, context, min(health.timeout_seconds, COMMAND_TIMEOUT_SECONDS), is_stopped)


def check_url(url: HealthURL, seconds: float) -> HealthReport:
    """Send one GET request to a program on this device. It is healthy if the status is from 200 to 299.

    Redirects are not followed, and no proxy is used. `seconds` limits each of connecting, the headers and the body.
    """
    timeout = max(1, math.ceil(min(seconds, URL_TIMEOUT_SECONDS)))
    config = Config(connect_timeout_seconds=timeout, read_timeout_seconds=timeout, answer_timeout_seconds=timeout)
    try:
        with Transport(config).open("GET", str(url), {"Connection": "close"}) as stream:
            report = read_body(200 <= stream.status < 300, _body(stream, timeout))
    except TryLater as error:
        return HealthReport(False, str(error))
    if report.is_healthy:
        return report
    message = f"{url} responds with status {stream.status}. {report.message}".strip()
    return HealthReport(False, message, report.verdict)


def _body(stream: Stream, seconds: float) -> bytes:
    """Return the body, or nothing if it is larger than a verdict may be. Raises `TryLater` if it takes too long."""
    deadline = time.monotonic() + seconds
    body = b""
    for chunk in stream.chunks():
        body += chunk
        if len(body) > MAX_VERDICT_SIZE:
            return b""
        if time.monotonic() > deadline:
            raise TryLater(f"The response took longer than {seconds:.0f} seconds.")
    return body


def _check_command(
    command: tuple[str, ...], context: CommandContext, seconds: int, is_stopped: Callable[[], bool]
) -> HealthReport | None:
    try:
        result = run(command, context, seconds, is_stopped)
    except CannotStart as error:
        return HealthReport(False, f"The health command cannot run: {error}")
    if is_stopped():
        return None
    if result.exit_code == 0:
        return HealthReport(True, result.output)
    reason = f"The health command ended with exit code {result.exit_code}."
    if result.exit_code is None:
        reason = f"The health command took longer than {seconds} s."
    return HealthReport(False, short_message(reason, result.output))


def short_message(reason: str, output: str = "") -> str:
    """Return the message of an unhealthy release for heartbeats: without secrets, and of limited length.

    Secrets are removed before the text is cut, because a truncated secret would not be recognised.
    """
    text = failure_message(sanitize(reason), sanitize(output), MAX_MESSAGE_LENGTH)
    return text.encode("utf-8", "replace").decode()[:MAX_MESSAGE_LENGTH]
