"""`kernex`: parse the command line, run one command, and turn an error into a message and an exit code."""

import os
import sys
from collections.abc import Sequence

from kernex_cli import __version__
from kernex_cli.arguments import Context, add_global_options
from kernex_cli.commands import (
    bundles,
    deploy,
    deployment_control,
    deployments,
    device,
    devices,
    events,
    groups,
    logs,
    push,
    session,
    status,
    tokens,
    watch,
)
from kernex_cli.errors import CommandFailed, Exit
from kernex_cli.parser import Parser
from kernex_cli.screen import Screen

# In the order of the help.
SUBJECTS = (
    session, push, deploy, deployments, watch, deployment_control, bundles, devices, device, logs, groups, tokens,
    events, status,
)  # fmt: skip
SUMMARY = "Ships versioned bundles to fleets of edge devices and shows what runs there."
SHORT_HELP = f"""\
{SUMMARY}

  kernex login SERVER                            log in with an API token
  kernex push DIR --name NAME --version VERSION  create a bundle from a directory
  kernex deploy NAME@VERSION --group GROUP       deploy it to devices
  kernex devices                                 list devices and what they run
  kernex device NAME                             show everything about one device

`kernex --help` lists all commands; `kernex COMMAND --help` explains one and gives examples.
"""
EXAMPLES = """\
a first deployment:
  kernex login https://fleet.example.com
  kernex push ./vad --name vad --version 1.0.0
  kernex deploy vad@1.0.0 --group lab --wait
  kernex devices --group lab

exit codes:
  0    success
  1    a bug in kernex
  2    incorrect usage, or a name or id that matches nothing or more than one object
  3    not logged in, or not allowed
  4    refused by the server
  5    the server could not be reached or returned an error
  6    the operation that the command waited for failed or took too long
  7    a problem on this machine
  8    the deployment that the command waited for is paused
  130  interrupted
  141  the program that reads stdout closed the pipe

`kernex COMMAND --help` explains a command and gives examples.
"""


def build_parser() -> Parser:
    parser = Parser(prog="kernex", description=SUMMARY, epilog=EXAMPLES)
    parser.add_argument("--version", action="version", version=f"kernex {__version__}")
    add_global_options(parser)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for subject in SUBJECTS:
        subject.add_to(commands)
    return parser


def main(args: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    try:
        arguments = build_parser().parse_all(sys.argv[1:] if args is None else args)
    except SystemExit as end:  # argparse printed an error or the help
        return int(end.code or 0)
    if "run" not in arguments:
        sys.stderr.write(SHORT_HELP)
        return Exit.USAGE
    screen = Screen(as_json=arguments.json, verbose=arguments.verbose)
    try:
        code: int = arguments.run(Context(arguments, os.environ, screen))
        sys.stdout.flush()
    except CommandFailed as error:
        screen.error(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        screen.error("Interrupted. The server keeps what it has accepted; run the same command again to continue.")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # The reader closed stdout. Redirect it to /dev/null; otherwise Python fails again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.PIPE_CLOSED
    return code
