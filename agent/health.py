"""The health gate: a new release has to say that it is well before it replaces the old one for good."""

import time
from collections.abc import Callable
from typing import Any

from agent import processes
from agent.config import Config
from agent.errors import DeploymentFailed
from agent.manifest import Health
from agent.processes import Place
from agent.supervisor import Supervisor, read_health_file

POLL_SECONDS = 0.1


def wait_until_healthy(
    config: Config, place: Place, health: Health, supervisor: Supervisor, check: Callable[[], None]
) -> dict[str, Any]:
    """Wait for the release to be healthy. Returns its verdict (empty if it gives none).

    `check` is called all the while. Raises `DeploymentFailed`: `unhealthy`, `health_timeout`, or `crash_loop` when the
    program keeps ending.
    """
    deadline = time.monotonic() + health.timeout_seconds
    told = ""
    while time.monotonic() < deadline:
        check()
        supervisor.tend()
        if supervisor.ends_within(health.timeout_seconds) >= config.crash_limit:
            raise DeploymentFailed("crash_loop", f"The program keeps ending: {supervisor.output_tail()}")
        if health.command:
            code, told = _ask(config, place, health, deadline, check)
            if code == 0:
                return {}
            _pause(min(health.interval_seconds, deadline - time.monotonic()), check)
            continue
        said = read_health_file(place.state / health.file)
        if said is not None:
            return _verdict(said)
        time.sleep(POLL_SECONDS)
    detail = told or supervisor.output_tail()
    raise DeploymentFailed("health_timeout", f"Not healthy within {health.timeout_seconds} s. {detail}".strip())


def _ask(config: Config, place: Place, health: Health, deadline: float, check: Callable[[], None]) -> tuple[int, str]:
    try:
        return processes.run(config, place, health.command, max(0.1, deadline - time.monotonic()), check)
    except TimeoutError:
        return 1, "The health command did not end in time."
    except OSError as error:
        return 1, f"The health command could not be started: {error}"


def _pause(seconds: float, check: Callable[[], None]) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        check()
        time.sleep(POLL_SECONDS)


def _verdict(said: dict[str, Any]) -> dict[str, Any]:
    if said.get("healthy") is not True:
        raise DeploymentFailed("unhealthy", str(said.get("message", "The program says that it is not healthy."))[:2000])
    verdict = said.get("verdict")
    return verdict if isinstance(verdict, dict) else {}
