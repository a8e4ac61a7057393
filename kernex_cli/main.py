"""`kernex`: reads the command line, runs one command, and turns what went wrong into a sentence and an exit code."""

import argparse
import os
import sys
from collections.abc import Sequence

from kernex_cli import __version__
from kernex_cli.arguments import Context
from kernex_cli.commands import bundles, deployments, devices, enrolment, groups, overview, push, session
from kernex_cli.errors import CommandFailed, Exit
from kernex_cli.screen import Screen

TEXT = """\
Ships versioned bundles to fleets of edge devices and shows what runs there.
"""
EXAMPLES = """\
a first deployment:
  kernex login https://fleet.example.com
  kernex push ./vad --name vad --version 1.0.0
  kernex deploy vad@1.0.0 --group lab --wait
  kernex devices --group lab

exit codes:
  0 done · 1 a defect in kernex · 2 wrong usage · 3 not logged in or not allowed · 4 refused by the server
  5 server unreachable or broken · 6 what was waited for failed · 7 a problem on this machine · 130 interrupted

`kernex COMMAND --help` explains a command and gives examples.
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kernex",
        description=TEXT,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"kernex {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for room in (session, push, deployments, bundles, devices, groups, enrolment, overview):
        room.add_to(commands)
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    try:
        arguments = build_parser().parse_args(words)
    except SystemExit as end:  # argparse has said what is wrong, or shown its help
        return int(end.code or 0)
    screen = Screen(as_json=arguments.json)
    try:
        code: int = arguments.run(Context(arguments, os.environ, screen))
        sys.stdout.flush()
    except CommandFailed as error:
        screen.failed(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        screen.failed("Interrupted. What the server already took stays there; run the same command again to go on.")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has gone; Python must not stumble over it again while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.PIPE_CLOSED
    return code
