"""A simulated fleet: many devices that use the real device API, to try out or test Kernex.

    python -m dev.simulate_fleet http://127.0.0.1:8000 --token TOKEN --devices 500 --fail 1.1.0=0.3

The devices enrol, send heartbeats and reports with real signatures, and pretend to install bundles. The options set
which shares of the devices fail, crash after a successful installation, or are offline. The same --seed gives the same
keys, so a second run continues with the devices of the first.
"""

import argparse
import heapq
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from dev.control_plane import CallFailed, ControlPlane
from dev.simulated_device import Behaviour, SimulatedDevice

THREADS = 16
DEVICE_TYPES = ("edge", "edge", "edge", "gateway", "camera")
REPORT_SECONDS = 5


class Fleet:
    """Devices that act when they are due, in a thread pool."""

    def __init__(self, devices: list[SimulatedDevice]) -> None:
        self.devices = devices
        self.counts: Counter[str] = Counter()
        self.last_error = ""
        self.stopped = threading.Event()

    def enrol(self, token: str) -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda device: device.register(token), self.devices))

    def restore(self, running: Mapping[str, dict[str, Any]]) -> None:
        """Let the devices run what they reported in an earlier run. `running` is by device id."""
        for device in self.devices:
            device.running = running.get(device.device_id, {})

    def run(self, seconds: float | None = None) -> None:
        """Let the devices act until `stopped` is set, or for this many seconds."""
        ends_at = None if seconds is None else time.monotonic() + seconds
        started = time.monotonic()
        queue: list[tuple[float, int]] = []
        for number, device in enumerate(self.devices):
            device.due_at = started + device.interval_seconds * number / len(self.devices)
            queue.append((device.due_at, number))
        heapq.heapify(queue)
        lock = threading.Lock()

        def act(number: int) -> None:
            device = self.devices[number]
            try:
                device.act(time.monotonic())
                self.counts["acts"] += 1
            except requests.RequestException as error:
                self.counts["errors"] += 1
                self.last_error = f"{error} {'' if error.response is None else error.response.text[:300]}"
                device.due_at = time.monotonic() + device.interval_seconds
            with lock:
                heapq.heappush(queue, (device.due_at, number))

        with ThreadPoolExecutor(THREADS) as pool:
            while not self.stopped.is_set() and (ends_at is None or time.monotonic() < ends_at):
                with lock:
                    due: list[int] = []
                    while queue and queue[0][0] <= time.monotonic() and len(due) < 4 * THREADS:
                        due.append(heapq.heappop(queue)[1])
                list(pool.map(act, due))
                self.stopped.wait(0 if due else 0.05)


def build(url: str, count: int, seed: int, behaviour: Behaviour) -> Fleet:
    """Return a fleet of this many devices, which are not enrolled yet."""
    session = requests.Session()
    session.mount("http://", HTTPAdapter(pool_maxsize=THREADS))
    session.mount("https://", HTTPAdapter(pool_maxsize=THREADS))
    return Fleet(
        [
            SimulatedDevice(
                url, f"sim-{number:05}", DEVICE_TYPES[number % len(DEVICE_TYPES)], behaviour, seed + number, session
            )
            for number in range(count)
        ]
    )


def share(text: str) -> tuple[str, float]:
    """Parse `1.1.0=0.3` into a name and a share."""
    name, separator, value = text.rpartition("=")
    try:
        rate = float(value)
    except ValueError:
        rate = -1
    if not name or not separator or not 0 <= rate <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a valid share: write 1.1.0=0.3, with a share from 0 to 1")
    return name, rate


def add_behaviour_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same devices (default: 1)")
    parser.add_argument(
        "--fail", type=share, action="append", default=[], metavar="VERSION=SHARE",
        help="the share of devices that roll this version back (repeatable)",
    )  # fmt: skip
    parser.add_argument(
        "--fail-type", type=share, action="append", default=[], metavar="TYPE=SHARE",
        help="the share of devices of this type that roll every version back (repeatable)",
    )  # fmt: skip
    parser.add_argument(
        "--crash", type=share, action="append", default=[], metavar="VERSION=SHARE",
        help="the share of devices on which this version becomes unhealthy after its success (repeatable)",
    )  # fmt: skip
    parser.add_argument(
        "--offline", type=float, default=0.02, help="the share of devices that are offline (default: 0.02)"
    )
    parser.add_argument("--stage-seconds", type=float, default=2, help="how long each stage takes (default: 2)")


def behaviour_of(arguments: argparse.Namespace) -> Behaviour:
    return Behaviour(
        failing=dict(arguments.fail),
        crashing=dict(arguments.crash),
        type_failing=dict(arguments.fail_type),
        stage_seconds=arguments.stage_seconds,
        offline=arguments.offline,
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m dev.simulate_fleet", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", help="the control plane, such as http://127.0.0.1:8000")
    parser.add_argument(
        "--token", required=True, help="an API token with the role admin, which creates the enrolment token"
    )
    parser.add_argument("--devices", type=int, default=100, help="how many devices (default: 100)")
    parser.add_argument("--group", default="fleet", help="the group of the devices (default: fleet)")
    parser.add_argument("--interval", type=int, default=10, help="seconds between two heartbeats (default: 10)")
    parser.add_argument("--seconds", type=float, help="how long to run (default: until Ctrl-C)")
    add_behaviour_options(parser)
    arguments = parser.parse_args()
    fleet = build(arguments.url.rstrip("/"), arguments.devices, arguments.seed, behaviour_of(arguments))
    try:
        control_plane = ControlPlane(arguments.url.rstrip("/"), arguments.token)
        token = control_plane.create_enrolment_token(arguments.group, arguments.devices, arguments.interval)
        sys.stderr.write(f"Enrolling {arguments.devices} devices in the group {arguments.group} …\n")
        fleet.enrol(token)
        fleet.restore(control_plane.running_bundles(arguments.group))
        threading.Thread(target=_report, args=[fleet], daemon=True).start()
        fleet.run(arguments.seconds)
    except (CallFailed, requests.RequestException) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        fleet.stopped.set()
    return 0


def _report(fleet: Fleet) -> None:
    """Print what the fleet did, every few seconds."""
    while not fleet.stopped.wait(REPORT_SECONDS):
        acts, errors = fleet.counts["acts"], fleet.counts["errors"]
        working = sum(1 for device in fleet.devices if device.job is not None)
        versions = Counter(
            f"{name} {entry['version']}{'' if entry['healthy'] else ' (unhealthy)'}"
            for device in fleet.devices
            for name, entry in device.running.items()
        )
        running = (
            ", ".join(f"{count} run {label}" for label, count in versions.most_common(4)) or "no device runs a bundle"
        )
        sys.stderr.write(f"{acts} heartbeats, {errors} errors, {working} devices at work; {running}\n")
        if fleet.last_error:
            sys.stderr.write(f"Last error: {fleet.last_error}\n")
            fleet.last_error = ""


if __name__ == "__main__":
    sys.exit(main())
