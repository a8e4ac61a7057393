"""The command line: `enrol`, `run`, `once`, `status`, `rollback`. docs/agent.md describes it and its exit codes."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agent import __version__, asking, enrolment, identity, log, state_dir, status
from agent.config import OPTIONS, Config, load
from agent.control_plane import ControlPlane
from agent.daemon import Daemon
from agent.errors import AgentError, AlreadyRunning, BadConfiguration, Exit, NothingToRollBack, WorkFailed
from agent.journal import Journal, Outcome
from agent.manifest import NAME
from agent.sequence import Clock

ROLLBACK_PATIENCE_SECONDS = 600.0


def main(words: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    os.umask(0o022)
    given = vars(_parser().parse_args(words))
    file = given.pop("config")
    try:
        config = load({name: given[name] for name in OPTIONS}, file=Path(file) if file else None)
        log.start(config)
        COMMANDS[given["command"]](config, given)
    except AgentError as error:
        sys.stderr.write(f"kernex-agent: {log.clean(str(error))}\n")
        return error.exit_code
    except OSError as error:
        sys.stderr.write(f"kernex-agent: The state directory cannot be used: {error}\n")
        return Exit.BROKEN_STATE
    return Exit.OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="kernex-agent", description="Installs and runs what Kernex sends here.")
    parser.add_argument("--version", action="version", version=__version__)
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--config", metavar="FILE", help="the configuration file, instead of the usual place")
    for name, known in OPTIONS.items():
        words: dict[str, Any] = {"help": known.metadata["sentence"], "default": None, "dest": name}
        if known.type is bool:
            words |= {"action": "store_const", "const": "true"}
        else:
            words["metavar"] = (known.metadata["unit"] or "word").upper()
        shared.add_argument(f"--{name.replace('_', '-')}", **words)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        sub = commands.add_parser(name, help=command.__doc__, description=command.__doc__, parents=[shared])
        if name == "status":
            sub.add_argument("--json", action="store_true", help="for programs")
        if name == "rollback":
            sub.add_argument("product", metavar="PRODUCT", help="the bundle's name")
    return parser


def _enrol(config: Config, _: dict[str, Any]) -> None:
    """Make this device's key and register it; harmless to repeat."""
    _need_server(config)
    state_dir.prepare(config.state_dir)
    control = ControlPlane(config, identity.load_or_make(config.state_dir), Clock())
    known = enrolment.enrol(config, control)
    sys.stdout.write(f"Enrolled at {known.server} as {known.device_id}: {known.state}.\n")


def _run(config: Config, _: dict[str, Any]) -> None:
    """Stay, beat and work until stopped; enrols by itself if it can."""
    _daemon(config, is_once=False)


def _once(config: Config, _: dict[str, Any]) -> None:
    """Send one heartbeat, do all the work that it asks for, and leave the programs running."""
    _daemon(config, is_once=True)


def _daemon(config: Config, *, is_once: bool) -> None:
    _need_server(config)
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
            outcome = daemon.roll_back(product)
    except AlreadyRunning:
        outcome = _ask(config, product)
    if outcome.state != "succeeded":
        raise WorkFailed(f"{product} was not rolled back: {outcome.reason_code} {outcome.message}")
    sys.stdout.write(f"{product} runs {found['previous']['version']} again.\n")


def _ask(config: Config, product: str) -> Outcome:
    return asking.ask(config.state_dir, product, ROLLBACK_PATIENCE_SECONDS)


def _need_server(config: Config) -> None:
    if not config.server:
        raise BadConfiguration("The option `server` is missing: set it to the address of the control plane.")


COMMANDS = {"enrol": _enrol, "run": _run, "once": _once, "status": _status, "rollback": _rollback}
