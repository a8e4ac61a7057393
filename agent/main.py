"""The command line: `enrol`, `run`, `once`, `status`, `rollback`. docs/agent.md describes it and its exit codes."""

import argparse
import errno
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import Field
from pathlib import Path
from typing import Any, NoReturn

from agent import __version__, local_requests, log, state_dir, status
from agent.config import OPTIONS, Config, at, load
from agent.daemon import Daemon
from agent.errors import AgentError, AlreadyRunning, BadConfiguration, Exit, NothingToRollBack, WorkFailed
from agent.jobs.journal import Journal
from agent.manifest import NAME
from agent.server import enrolment, identity
from agent.server.api import ControlPlane
from agent.server.clock import Clock

# Not EFBIG, unlike in agent.atomic_files: reading says that of a file that is larger than it may be.
NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
ROLLBACK_PATIENCE_SECONDS = 600.0
INTERRUPTED = 130

logger = logging.getLogger(__name__)
EXAMPLES = """\
examples:
  kernex-agent enrol --server https://fleet.example.com --token-file -   # then paste the token
  kernex-agent run                                                       # what the service does
  kernex-agent status --json
  kernex-agent rollback vad

Options come from the command line, else from the environment (KERNEX_AGENT_STATE_DIR for --state-dir), else from
/etc/kernex-agent/agent.toml (state_dir = "…"). The enrolment token never stands on the command line.

exit codes:
  0  done                               6  no server answered, or it is busy: try later
  1  a defect of the agent              7  another agent works on this state directory
  2  an option is missing or wrong      8  the state directory cannot be used
  3  not enrolled, and no token         9  the work ended otherwise than hoped
  4  the server refused                10  there is no previous release
  5  this device is decommissioned    130  interrupted
"""


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    os.umask(0o022)
    given = vars(_parser().parse_args(words))
    file = given.pop("config")
    try:
        config = load({name: given.get(name) for name in OPTIONS}, file=Path(file) if file else None)
        log.start(config)
        COMMANDS[given["command"]](config, given)
        sys.stdout.flush()
    except AgentError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read has seen enough. Python would complain when it closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        hint = " Make room on its disk." if error.errno in NO_SPACE else ""
        return _fail(f"The state directory cannot be used: {error}.{hint}", Exit.BROKEN_STATE)
    except Exception as error:
        logger.debug("An exception that nobody expected.", exc_info=True)
        return _fail(
            f"A defect of the agent: {type(error).__name__}: {error}. What is installed is as it was; --log-level debug"
            " shows where. Please report it.",
            Exit.DEFECT,
        )
    return Exit.OK


def _fail(sentence: str, code: int) -> int:
    sys.stderr.write(f"kernex-agent: {log.clean(sentence)}\n")
    return code


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Somebody may have typed the token where it does not belong."""
        super().error(log.clean(message))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="kernex-agent",
        description="Installs what Kernex sends to this device, keeps it running, and can always go back.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    shared = _Parser(add_help=False)
    shared.add_argument("--config", metavar="FILE", help="the configuration file, instead of the usual place")
    for name, known in OPTIONS.items():
        if known.metadata["is_secret"]:
            continue
        words: dict[str, Any] = {"help": _help(known), "default": None, "dest": name}
        if known.type is bool:
            words |= {"action": "store_const", "const": "true"}
        else:
            words["metavar"] = (known.metadata["unit"] or "word").upper()
        shared.add_argument(f"--{name.replace('_', '-')}", **words)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        sub = commands.add_parser(
            name, help=command.__doc__, description=command.__doc__, parents=[shared], allow_abbrev=False
        )
        if name == "status":
            sub.add_argument("--json", action="store_true", help="for programs")
        if name == "rollback":
            sub.add_argument("product", metavar="PRODUCT", help="the bundle's name")
    return parser


def _help(known: Field[Any]) -> str:
    shown = f" (default: {known.default})" if known.default not in ("", False) else ""
    return f"{known.metadata['sentence']}{shown}"


def _enrol(config: Config, _: dict[str, Any]) -> None:
    """Make this device's key and register it; harmless to repeat."""
    _need_server(config)
    state_dir.prepare(config.state_dir)
    control = ControlPlane(config, identity.load_or_make(config.state_dir), Clock())
    known = enrolment.enrol(config, control)
    sys.stdout.write(f"Enrolled at {known.server} as {known.device_id}: {known.state}.\n")
    if known.state == "pending":
        sys.stdout.write(f"An operator lets it in: kernex approve {known.device_id}\n")


def _run(config: Config, _: dict[str, Any]) -> None:
    """Stay, beat and work until stopped; enrols by itself if it can."""
    _daemon(config, is_once=False)


def _once(config: Config, _: dict[str, Any]) -> None:
    """Send one heartbeat, do all the work that it asks for, and leave the programs running."""
    _daemon(config, is_once=True)


def _daemon(config: Config, *, is_once: bool) -> None:
    config = _with_server(config)
    state_dir.prepare(config.state_dir)
    with state_dir.locked(config.state_dir):
        key = identity.load_or_make(config.state_dir)
        daemon = Daemon(config, key, Journal(config.state_dir), is_once=is_once)
        daemon.handle_signals()
        daemon.run()


def _status(config: Config, given: dict[str, Any]) -> None:
    """Show what this device is, what is installed, and what is being done."""
    found = status.read(config.state_dir)
    sys.stdout.write((status.as_json(found) if given["json"] else status.text(found)) + "\n")


def _rollback(config: Config, given: dict[str, Any]) -> None:
    """Return a product to its previous release; needs no network."""
    product = given["product"]
    found = status.read(config.state_dir)["products"].get(product)
    if not NAME.fullmatch(product) or found is None or found["previous"] is None:
        raise NothingToRollBack(f"There is no previous release of {product!r} on this device.")
    try:
        with state_dir.locked(config.state_dir):
            daemon = Daemon(config, identity.load_or_make(config.state_dir), Journal(config.state_dir))
            result = daemon.roll_back(product)
    except AlreadyRunning:
        result = local_requests.ask(config.state_dir, product, ROLLBACK_PATIENCE_SECONDS)
    if result.state != "succeeded":
        raise WorkFailed(f"{product} was not rolled back: {result.reason_code} {result.message}")
    sys.stdout.write(f"{product} runs {found['previous']['version']} again.\n")


def _need_server(config: Config) -> None:
    if not config.server:
        raise BadConfiguration("The option `server` is missing: set it to the address of the control plane.")


def _with_server(config: Config) -> Config:
    """With the server that is configured, or else the one at which this device enrolled."""
    known = enrolment.load(config.state_dir)
    if not config.server and known is not None:
        return at(config, known.server)
    _need_server(config)
    return config


COMMANDS = {"enrol": _enrol, "run": _run, "once": _once, "status": _status, "rollback": _rollback}
