"""The command line: `enrol`, `run`, `once`, `status`, `rollback`, `restart`. docs/agent.md describes it."""

import argparse
import errno
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import Field
from pathlib import Path
from typing import Any, NoReturn

from agent import __version__, log, state_dir, status
from agent.config import OPTIONS, Config, load, with_server
from agent.daemon import Daemon
from agent.errors import AgentError, AlreadyRunning, BadConfiguration, ExitCode, JobFailed, NothingToRollBack
from agent.jobs.journal import Journal
from agent.jobs.state import JobKind, JobResult
from agent.local_requests import request
from agent.manifest import NAME
from agent.once import exchange_until_idle
from agent.server import identity
from agent.server.api import ControlPlane
from agent.server.clock import Clock
from agent.server.enrolment import enrol, load_enrolment

# Without EFBIG, which `agent.atomic_files` also raises for a file that is too large to read.
NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
LOCAL_TIMEOUT_SECONDS = 600.0
INTERRUPTED = 130

logger = logging.getLogger(__name__)
EXAMPLES = """\
examples:
  kernex-agent enrol --server https://fleet.example.com --token-file -   # then paste the token
  kernex-agent run                                                       # what the service runs
  kernex-agent status --json
  kernex-agent rollback vad
  kernex-agent restart vad

Options are read from the command line, then from the environment (KERNEX_AGENT_STATE_DIR for --state-dir), then from
/etc/kernex-agent/agent.toml (state_dir = "…"). The enrolment token cannot be set on the command line.

exit codes:
  0  success                            6  the server cannot be reached or is busy
  1  a bug in the agent                 7  another agent is using this state directory
  2  an option is missing or invalid    8  the state directory cannot be used
  3  not enrolled, and no token         9  a job did not succeed
  4  the server refused the request    10  there is no previous release
  5  this device is decommissioned    130  interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    os.umask(0o022)
    arguments = vars(_parser().parse_args(argv))
    file = arguments.pop("config")
    try:
        config = load({name: arguments.get(name) for name in OPTIONS}, file=Path(file) if file else None)
        log.start(config)
        COMMANDS[arguments["command"]](config, arguments)
        sys.stdout.flush()
    except AgentError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has closed the pipe. Without this redirection, Python prints an error when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        hint = " Free some space on its disk." if error.errno in NO_SPACE else ""
        return _fail(f"The state directory cannot be used: {error}.{hint}", ExitCode.BROKEN_STATE)
    except Exception as error:
        logger.debug("Unexpected exception.", exc_info=True)
        return _fail(
            f"A bug in the agent: {type(error).__name__}: {error}. The installed releases are unchanged. Please report"
            " the bug with the output of --log-level debug.",
            ExitCode.BUG,
        )
    return ExitCode.OK


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"kernex-agent: {log.one_line(message)}\n")
    return code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print the error without secrets: the user may have put the token on the command line."""
        super().error(log.one_line(message))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="kernex-agent",
        description="Installs bundles on this device, keeps their programs running, and rolls back failed releases.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    shared = _Parser(add_help=False)
    shared.add_argument("--config", metavar="FILE", help="read this file instead of /etc/kernex-agent/agent.toml")
    for name, option in OPTIONS.items():
        if option.metadata["is_secret"]:
            continue
        settings: dict[str, Any] = {"help": _help(option), "default": None, "dest": name}
        if option.type is bool:
            settings |= {"action": "store_const", "const": "true"}
        else:
            settings["metavar"] = (option.metadata["unit"] or "value").upper()
        shared.add_argument(f"--{name.replace('_', '-')}", **settings)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        sub = commands.add_parser(
            name, help=command.__doc__, description=command.__doc__, parents=[shared], allow_abbrev=False
        )
        if name == "status":
            sub.add_argument("--json", action="store_true", help="print JSON")
        if name in {"rollback", "restart"}:
            sub.add_argument("product", metavar="PRODUCT", help="the bundle's name, without its version")
    return parser


def _help(option: Field[Any]) -> str:
    default = f" (default: {option.default})" if option.default not in ("", False) else ""
    return f"{option.metadata['description']}{default}"


def _enrol(config: Config, _: dict[str, Any]) -> None:
    """Generate this device's key and register it; idempotent."""
    _require_server(config)
    state_dir.prepare(config.state_dir)
    control = ControlPlane(config, identity.load_or_create(config.state_dir), Clock())
    enrolment = enrol(config, control)
    sys.stdout.write(f"Enrolled at {enrolment.server} as {enrolment.device_id}: {enrolment.state}.\n")
    if enrolment.state == "pending":
        sys.stdout.write(f"An operator can approve it with: kernex approve {enrolment.device_id}\n")


def _run(config: Config, _: dict[str, Any]) -> None:
    """Send heartbeats and work on jobs until stopped; enrols automatically if a token is configured."""
    with _daemon(config) as daemon:
        daemon.handle_signals()
        daemon.run()


def _once(config: Config, _: dict[str, Any]) -> None:
    """Send a heartbeat, execute the commands in the response, and leave the programs running."""
    with _daemon(config) as daemon:
        daemon.handle_signals()
        daemon.run(exchange_until_idle, keep_programs=True)
    if daemon.has_failed_jobs:
        raise JobFailed("A job did not succeed; the log says why.")


@contextmanager
def _daemon(config: Config) -> Iterator[Daemon]:
    config = _with_server(config)
    state_dir.prepare(config.state_dir)
    with state_dir.locked(config.state_dir):
        log.start_log_file(config)
        yield Daemon(config, identity.load_or_create(config.state_dir), Journal(config.state_dir))


def _status(config: Config, arguments: dict[str, Any]) -> None:
    """Show the device, the installed releases and the unfinished jobs."""
    current = status.read(config.state_dir)
    sys.stdout.write((status.as_json(current) if arguments["json"] else status.as_text(current)) + "\n")


def _rollback(config: Config, arguments: dict[str, Any]) -> None:
    """Return a product to its previous release, without network access."""
    name = arguments["product"]
    product = status.read(config.state_dir).products.get(name)
    if not NAME.fullmatch(name) or product is None or product.previous is None:
        raise NothingToRollBack(f"There is no previous release of {name!r} on this device.")
    result = _work_locally(config, JobKind.ROLL_BACK, name)
    if result.state != "succeeded":
        raise JobFailed(f"{name} was not rolled back ({result.reason_code}): {result.message}")
    sys.stdout.write(f"{name} runs {product.previous.version} again.\n")


def _restart(config: Config, arguments: dict[str, Any]) -> None:
    """Restart the program of a product, even if it was stopped after a crash loop."""
    name = arguments["product"]
    product = status.read(config.state_dir).products.get(name)
    if not NAME.fullmatch(name) or product is None or product.current is None:
        raise JobFailed(f"There is no release of {name!r} on this device.")
    result = _work_locally(config, JobKind.RESTART, name)
    if result.state != "succeeded":
        raise JobFailed(f"{name} is not healthy ({result.reason_code}): {result.message}")
    sys.stdout.write(f"{name} {product.current.version} was restarted and is healthy.\n")


def _work_locally(config: Config, kind: JobKind, product: str) -> JobResult:
    """Let the running agent carry out a job for a product. If no agent runs, carry it out in this process."""
    try:
        with state_dir.locked(config.state_dir):
            log.start_log_file(config)
            daemon = Daemon(config, identity.load_or_create(config.state_dir), Journal(config.state_dir))
            return daemon.work_locally(kind, product)
    except AlreadyRunning:
        return request(config.state_dir, kind, product, LOCAL_TIMEOUT_SECONDS)


def _require_server(config: Config) -> None:
    if not config.server:
        raise BadConfiguration("The option `server` is missing: set it to the URL of the control plane.")


def _with_server(config: Config) -> Config:
    """Return the configuration. If it has no server, add the one where this device is enrolled."""
    enrolment = load_enrolment(config.state_dir)
    if not config.server and enrolment is not None:
        return with_server(config, enrolment.server)
    _require_server(config)
    return config


COMMANDS = {"enrol": _enrol, "run": _run, "once": _once, "status": _status, "rollback": _rollback, "restart": _restart}
