"""The phases and thresholds of `kernex deploy`, from options or from a TOML file."""

import argparse
import re
import tomllib
from pathlib import Path
from typing import Any

from kernex_cli.arguments import duration, moment, positive_number
from kernex_cli.errors import BadUsage, LocalProblem
from kernex_cli.parser import Parser

ALL = ("100%", "all")
# The options that every phase shares, by the API's names.
PHASE_OPTIONS = {
    "soak": "soak_seconds",
    "success": "success_threshold_percent",
    "errors": "error_threshold_percent",
}
# Further options, by the API's names.
DEPLOYMENT_OPTIONS = {
    "on_failure": "on_failure",
    "max_bad": "max_bad",
    "accept": "accept_seconds",
    "fill": "fill_seconds",
    "deadline": "deadline_seconds",
    "observation": "observation_seconds",
    "unhealthy": "unhealthy_seconds",
    "priority": "priority",
    "attempts": "max_attempts",
    "start": "start_at",
    "expires": "expires_at",
    "in_flight": "max_in_flight",
    "available": "min_available_percent",
    "rate": "devices_per_minute",
}
# The options of DEPLOYMENT_OPTIONS that `kernex adjust` has as well.
ADJUSTABLE_OPTIONS = ("priority", "attempts", "start", "expires", "in_flight", "available", "rate", "max_bad")


def phase_sizes(text: str) -> list[dict[str, int]]:
    """Return the sizes of the phases `1%,25%,100%` or `5,50,all`, cumulative, as the API's objects."""
    *sizes, last = [size.strip() for size in text.split(",")]
    if last not in ALL:
        raise argparse.ArgumentTypeError(f"the last phase takes all devices: write {text},100%")
    return [*map(_phase_size, sizes), {}]


def _phase_size(text: str) -> dict[str, int]:
    match = re.fullmatch(r"([1-9][0-9]{0,7})(%?)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not the size of a phase: write 10% or 50")
    return {"percent" if match[2] else "count": int(match[1])}


def percentage(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,3})%?", text)
    if not match or int(match[1]) > 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage: write a number from 0 to 100")
    return int(match[1])


def add_rollout_options(parser: Parser) -> None:
    parser.add_argument("--file", metavar="FILE", help="a TOML file with the API's fields; other options override it")
    parser.add_argument(
        "--phases", type=phase_sizes, metavar="SIZES", help="cumulative sizes, such as 1%%,25%%,100%% or 5,50,all"
    )
    parser.add_argument("--soak", type=duration, metavar="TIME", help="how long each phase is observed before the next")
    parser.add_argument("--gate", action="store_true", help="wait after each phase for `kernex promote`")
    parser.add_argument(
        "--success", type=percentage, metavar="PERCENT", help="how many devices of a phase must succeed (default: 95)"
    )
    parser.add_argument(
        "--errors", type=percentage, metavar="PERCENT", help="more failures than this trip a phase (default: 10)"
    )
    parser.add_argument(
        "--on-failure", choices=["pause", "cancel", "roll_back"], help="what happens after a trip (default: pause)"
    )
    parser.add_argument(
        "--accept", type=duration, metavar="TIME", help="how long a device may take to accept an offer (default: 1h)"
    )
    parser.add_argument(
        "--fill", type=duration, metavar="TIME", help="how long a phase waits for its devices (default: 1d)"
    )
    parser.add_argument(
        "--stratum", action="append", default=[], metavar="FIELD",
        help="mix devices by type, group, running or tag:PREFIX in every phase (repeatable)",
    )  # fmt: skip
    parser.add_argument("--canary", action="append", default=[], metavar="DEVICE", help="admitted first (repeatable)")
    parser.add_argument("--test-canaries", action="store_true", help="admit the selected test devices first")
    add_adjustable_options(parser)
    parser.add_argument("--allow-downgrade", action="store_true", help="include devices that run a newer release")


def add_adjustable_options(parser: Parser) -> None:
    """Add the options that `kernex deploy` and `kernex adjust` have in common."""
    parser.add_argument(
        "--max-bad", type=positive_number, metavar="N",
        help="more failures than this, in all phases together, trip the deployment",
    )  # fmt: skip
    parser.add_argument(
        "--attempts", type=positive_number, metavar="N",
        help="how many attempts a device has if it fails for a temporary reason (default: 3)",
    )  # fmt: skip
    parser.add_argument(
        "--priority", type=int, choices=range(101), metavar="N",
        help="from 0 to 100: which of several deployments of a product comes first (default: 50)",
    )  # fmt: skip
    parser.add_argument(
        "--start", type=moment, metavar="TIME",
        help="offer nothing before this time: 2h (from now), or 2026-12-24T20:00Z",
    )  # fmt: skip
    parser.add_argument(
        "--expires", type=moment, metavar="TIME", help="offer nothing after this time: 3d, or 2026-12-31T20:00Z"
    )
    parser.add_argument("--in-flight", type=positive_number, metavar="N", help="how many devices are at work at once")
    parser.add_argument(
        "--in-flight-per", type=tag_limit, metavar="TAG=N",
        help="how many devices with the same tag are at work at once: site:=2 allows two for each site: tag",
    )  # fmt: skip
    parser.add_argument(
        "--available", type=percentage, metavar="PERCENT",
        help="how many of each group's online devices must not be at work",
    )  # fmt: skip
    parser.add_argument("--rate", type=positive_number, metavar="N", help="how many devices get an offer per minute")


def adjustable_fields(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the API's fields that the options of `add_adjustable_options` give."""
    fields = {
        DEPLOYMENT_OPTIONS[option]: value
        for option in ADJUSTABLE_OPTIONS
        if (value := getattr(arguments, option)) is not None
    }
    return fields | (arguments.in_flight_per or {})


def tag_limit(text: str) -> dict[str, Any]:
    """Parse `site:=2` into the API's fields."""
    tag, separator, number = text.rpartition("=")
    if not tag or not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not a limit for tags: write site:=2")
    return {"limit_tag": tag, "max_in_flight_per_tag": positive_number(number)}


def rollout_fields(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the API's fields that the options and the file give, except for the devices.

    Raises `LocalProblem` for a file that cannot be read, and `BadUsage` for options that contradict each other.
    """
    fields = read_rollout(Path(arguments.file)) if arguments.file else {}
    if arguments.phases:
        fields["phases"] = arguments.phases
    shared = {
        name: value for option, name in PHASE_OPTIONS.items() if (value := getattr(arguments, option)) is not None
    }
    if shared:
        fields["phases"] = [{**phase, **shared} for phase in fields.get("phases", [{}])]
    if arguments.gate:
        *gated, last = fields.get("phases", [{}])
        if not gated:
            raise BadUsage("A gate is between two phases: give --phases, such as --phases 10%,100%.")
        fields["phases"] = [*({**phase, "manual_gate": True} for phase in gated), last]
    fields |= {
        name: value for option, name in DEPLOYMENT_OPTIONS.items() if (value := getattr(arguments, option)) is not None
    }
    fields |= arguments.in_flight_per or {}
    if arguments.stratum:
        fields["strata"] = arguments.stratum
    if arguments.test_canaries:
        fields["test_canaries"] = True
    if arguments.allow_downgrade:
        fields["allow_downgrade"] = True
    return fields


def read_rollout(path: Path) -> dict[str, Any]:
    """Return the fields of a rollout file. Raises `LocalProblem`."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise LocalProblem(f"Cannot read {path}: {error.strerror or error}.") from None
    except UnicodeDecodeError:
        raise LocalProblem(f"{path} is not UTF-8 text.") from None
    except tomllib.TOMLDecodeError as error:
        raise LocalProblem(f"{path} is not valid TOML: {error}.") from None
