"""The agent's command line: `python -m agent --help`."""

import argparse
import fcntl
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agent import __version__, files, logs
from agent.config import Config, load
from agent.daemon import Agent, AlreadyRunning, NotAccepted
from agent.errors import BadConfig, BadState, Unreachable
from agent.releases import Product
from agent.state import Job, State

OK, BUG, USAGE, BAD_CONFIG, BAD_STATE, UNREACHABLE, NOT_ACCEPTED, ALREADY_RUNNING, PENDING, FAILED = range(10)
EXIT_CODES = """exit codes:
  0  done
  1  a defect of the agent: please report it with the log
  2  wrong words on the command line
  3  an option holds what it does not accept
  4  the state directory is damaged or not writable
  5  the control plane cannot be reached
  6  the control plane does not accept this device or its token
  7  another agent runs on this state directory
  8  the device waits for an operator's approval
  9  the deployment or rollback did not succeed
"""


def main(words: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    arguments = parser().parse_args(words)
    flags = {"server": arguments.server, "token_file": arguments.token_file, "state_dir": arguments.state_dir}
    if arguments.insecure_http:
        flags["insecure_http"] = True
    try:
        config = load(arguments.config, **{name: value for name, value in flags.items() if value is not None})
        logs.configure(config.log_format, config.log_level)
        command: Callable[[Config, argparse.Namespace], int] = arguments.function
        return command(config, arguments)
    except BadConfig as error:
        return complain(BAD_CONFIG, str(error))
    except AlreadyRunning as error:
        return complain(ALREADY_RUNNING, str(error))
    except (BadState, PermissionError) as error:
        return complain(BAD_STATE, str(error))
    except Unreachable as error:
        return complain(UNREACHABLE, f"{error} Check the server's address and the network, then try again.")
    except NotAccepted as error:
        return complain(NOT_ACCEPTED, str(error))


def complain(code: int, sentence: str) -> int:
    print(f"kernex-agent: {sentence}", file=sys.stderr)
    return code


def parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--config", metavar="FILE", help="TOML file with a table [agent]")
    common.add_argument("--server", metavar="URL", help="the control plane's address, https://…")
    common.add_argument("--token-file", metavar="FILE", help="file with the enrolment token ('-' reads standard input)")
    common.add_argument("--state-dir", metavar="DIR", help="where the agent keeps all it knows")
    common.add_argument("--insecure-http", action="store_true", help="allow http:// to another machine")
    top = argparse.ArgumentParser(
        prog="kernex-agent",
        description="Keeps this device in step with its Kernex control plane.",
        epilog=EXIT_CODES + "\nEvery option can be set as KERNEX_AGENT_NAME in the environment; see docs/agent.md.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(required=True, metavar="COMMAND")
    for name, function, sentence in (
        ("enrol", enrol, "register this device with an enrolment token; harmless when repeated"),
        ("run", run, "the daemon: heartbeats, deployments and programs until SIGTERM"),
        ("once", once, "one heartbeat and all the work that it asks for"),
        ("status", status, "what this device runs; also while the daemon runs"),
        ("rollback", rollback, "go back to a product's previous release; needs no network"),
    ):
        sub = commands.add_parser(name, parents=[common], help=sentence, description=sentence)
        sub.set_defaults(function=function)
        if name == "status":
            sub.add_argument("--json", action="store_true", help="one JSON object instead of lines for people")
        if name == "rollback":
            sub.add_argument("product", metavar="PRODUCT", help="the bundle's name")
    return top


def enrol(config: Config, arguments: argparse.Namespace) -> int:
    agent = Agent(with_token(config))
    agent.start(resume=False)
    agent.enrol()
    print(f"This device is {agent.state.device_id}.")
    if agent.pending:
        return complain(PENDING, "The device waits for an operator's approval; `kernex-agent run` goes on by itself.")
    return OK


def with_token(config: Config) -> Config:
    """The token from standard input, where the command line says so."""
    if config.token_file != "-":
        return config
    return load(None, {}, **{**vars_of(config), "token": sys.stdin.readline().strip(), "token_file": ""})


def vars_of(config: Config) -> dict[str, Any]:
    return {name: getattr(config, name) for name in Config.__dataclass_fields__}


def run(config: Config, arguments: argparse.Namespace) -> int:
    agent = Agent(with_token(config))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: agent.stopping.set())
    agent.start()
    try:
        agent.run()
    finally:
        agent.stop()
    return OK


def once(config: Config, arguments: argparse.Namespace) -> int:
    agent = Agent(with_token(config))
    agent.start()
    try:
        outcome = agent.once()
    finally:
        agent.stop()
    if agent.pending:
        return complain(PENDING, "The device waits for an operator's approval.")
    return OK if outcome in {"", "succeeded"} else complain(FAILED, f"The deployment ended as {outcome}.")


def status(config: Config, arguments: argparse.Namespace) -> int:
    state = State.load(config.directory / "state.json")
    job = Job.load(config.directory / "job.json")
    products = {}
    for product in Product.all(config.directory / "products"):
        if product.current:
            products[product.name] = {
                "version": product.manifest(product.current).version,
                "manifest_sha256": product.current,
                "can_roll_back": product.is_installed(product.previous),
            }
    told = {
        "device_id": state.device_id,
        "server": state.server,
        "running": is_locked(config.directory / "lock"),
        "products": products,
        "deployment": {"deployment_id": job.deployment_id, "product": job.product, "step": job.step} if job else None,
        "reports_waiting": len(list((config.directory / "outbox").glob("*.json"))),
    }
    if arguments.json:
        print(json.dumps(told, indent=2))
        return OK
    print(f"device   {told['device_id'] or 'not enrolled'}")
    print(f"server   {told['server'] or '-'}")
    print(f"agent    {'running' if told['running'] else 'not running'}")
    for name, product_told in products.items():
        print(f"runs     {name} {product_told['version']}")
    if job:
        print(f"deploys  {job.product} {job.version}: {job.step}")
    return OK


def is_locked(path: Path) -> bool:
    """Whether a daemon holds the state directory."""
    try:
        with path.open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def rollback(config: Config, arguments: argparse.Namespace) -> int:
    product = Product(config.directory / "products" / arguments.product)
    if "/" in arguments.product or not product.is_installed(product.previous):
        return complain(FAILED, f"{arguments.product} has no previous release on this device.")
    if is_locked(config.directory / "lock"):
        files.write(config.directory / "requests" / f"rollback-{arguments.product}", b"")
        print("The running agent was asked to go back.")
        return OK
    agent = Agent(config)
    agent.start(resume=False)
    print(agent.roll_back(arguments.product))
    agent.stop()
    return OK


if __name__ == "__main__":
    sys.exit(main())
