"""`logs`: fetch the logs of a device's agent and of its programs."""

import time
from argparse import BooleanOptionalAction
from pathlib import Path
from typing import Any

from kernex_cli.arguments import LONG_RETRY_SECONDS, Commands, Context, Help, add_command, add_timeout, byte_count
from kernex_cli.commands.devices import DEVICE_HELP
from kernex_cli.errors import Exit, LocalProblem, WaitFailed
from kernex_cli.formatting import size_text
from kernex_cli.lookup import find_device
from kernex_cli.parser import Parser
from kernex_cli.resources import LogRequest

POLL_SECONDS = 1.0
LOGS = Help(
    "fetch the logs of a device's agent and programs",
    """\
Asks the device for its logs: the agent's own, those of the running programs, and those of releases that failed. The
device receives the request with its next heartbeat and sends the newest part of each log, without secrets. The text
goes to standard output. If the device already has an open request, the command waits for that one.
Ctrl-C stops only the waiting: run the same command again to continue.""",
    """\
  kernex logs shelf-4
  kernex logs shelf-4 --output shelf-4.log --timeout 5m
  kernex logs shelf-4 --max-size 64K | grep -i error
  kernex logs shelf-4 --no-wait --json
""",
)


def add_to(commands: "Commands[Parser]") -> None:
    parser = add_command(commands, "logs", fetch_logs, LOGS, LONG_RETRY_SECONDS)
    parser.add_argument("device", metavar="DEVICE", help=DEVICE_HELP)
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the text to FILE instead of stdout")
    parser.add_argument("--max-size", type=byte_count, metavar="SIZE", help="fetch at most SIZE bytes, such as 64K")
    parser.add_argument("--wait", action=BooleanOptionalAction, default=True, help="wait for the logs (the default)")
    add_timeout(parser, "the logs")


def fetch_logs(context: Context) -> int:
    """Raises: `Refused`, `Unreachable`, `WaitFailed`, `LocalProblem`."""
    arguments, client, screen = context.arguments, context.client, context.screen
    device_id = find_device(client, arguments.device)
    body = {"max_size": arguments.max_size} if arguments.max_size is not None else {}
    document = client.post(f"/devices/{device_id}/logs", body)
    request = LogRequest.parse(document)
    if not arguments.wait:
        screen.result(
            document,
            f"The device was asked for its logs (request {request.id}).",
            f"Next: kernex logs {arguments.device}",
        )
        return Exit.OK
    document = _wait(context, request.id)
    request = LogRequest.parse(document)
    text = client.text(f"/log-requests/{request.id}/text")
    if arguments.output:
        _write(arguments.output, text)
        screen.result(document, f"{size_text(request.size)} written to {arguments.output}.")
    elif screen.as_json:
        screen.result({**document, "text": text})
    else:
        screen.text(text)
    if request.state != "complete":
        raise WaitFailed(
            f"The logs are not complete: the request {request.state}{f' ({request.reason})' if request.reason else ''}."
        )
    return Exit.OK


def _wait(context: Context, request_id: str) -> dict[str, Any]:
    """Return the log request once it has ended. Raises `WaitFailed` after --timeout."""
    started_at = time.monotonic()
    timeout = context.arguments.timeout
    with context.screen.bar("Waiting for the device's next heartbeat") as bar:
        while True:
            document: dict[str, Any] = context.client.get(f"/log-requests/{request_id}")
            request = LogRequest.parse(document)
            if request.has_ended:
                return document
            if request.batches:
                bar.show(detail=f"{size_text(request.size)} received")
            if timeout is not None and time.monotonic() - started_at > timeout:
                raise WaitFailed(
                    f"The logs have not arrived after {timeout} s. The request stays open: run the same command again, "
                    "or check with `kernex device` whether the device is online."
                )
            time.sleep(POLL_SECONDS)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise LocalProblem(f"{path} cannot be written: {error.strerror}.") from None
