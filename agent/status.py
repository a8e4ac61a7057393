"""The status of the agent, read from its files. Reading it changes nothing and is possible while the agent runs."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.atomic_files import read_limited
from agent.errors import BrokenState
from agent.jobs.encoding import decode
from agent.jobs.journal import FILE, MAX_SIZE
from agent.jobs.state import Release, State
from agent.log import one_line
from agent.running_bundles import BundleHealth, read_saved, stopped_health
from agent.server.enrolment import load_enrolment
from agent.state_dir import is_writable


@dataclass(frozen=True, slots=True)
class ReleaseStatus:
    """An installed release and the deployment that installed it."""

    version: str
    manifest_sha256: str
    deployment_id: str
    is_observed: bool
    stopped: str


@dataclass(frozen=True, slots=True)
class ProductStatus:
    """The installed releases of a product. `health` is None if no agent runs."""

    current: ReleaseStatus | None
    previous: ReleaseStatus | None
    health: BundleHealth | None


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A job that is not finished."""

    kind: str
    product: str
    version: str
    stage: str
    starts: int


@dataclass(frozen=True, slots=True)
class Status:
    """Everything that `status` shows; the fields of `status --json`."""

    state_dir: str
    is_writable: bool
    server: str
    device_id: str
    state: str
    interval_seconds: int | None
    products: dict[str, ProductStatus]
    jobs: list[JobStatus]
    reports_waiting: int
    log_requests: int


def read(state_dir: Path) -> Status:
    """Return the status of the agent in a state directory. Raises `BrokenState` for a damaged journal."""
    state = _state(state_dir)
    enrolment = load_enrolment(state_dir)
    health = read_saved(state_dir)
    return Status(
        state_dir=str(state_dir),
        is_writable=is_writable(state_dir),
        server=enrolment.server if enrolment else "",
        device_id=enrolment.device_id if enrolment else "",
        state=enrolment.state if enrolment else "not enrolled",
        interval_seconds=enrolment.interval_seconds if enrolment else None,
        products={
            name: ProductStatus(_release(product.current), _release(product.previous), health.get(name))
            for name, product in sorted(state.products.items())
        },
        jobs=[JobStatus(job.kind, job.product, job.version, job.stage, job.starts) for job in state.jobs],
        reports_waiting=len(state.outbox),
        log_requests=len(state.log_requests),
    )


def as_text(status: Status) -> str:
    """Return the status as text for people."""
    server = f" at {status.server}" if status.server else ""
    lines = [f"Device {status.device_id or '-'}: {status.state}{server}"]
    for name, product in status.products.items():
        current, previous = product.current, product.previous
        line = f"{name}: {current.version if current else 'nothing'}"
        if current and current.is_observed:
            line += " (under observation)"
        lines.append(line + (f", previously {previous.version}" if previous else ""))
        if current and product.health:
            lines.append(f"  {_health_text(product.health)}")
        elif current and current.stopped:
            lines.append(f"  {_health_text(stopped_health(current.stopped))}")
    lines += [f"{job.kind} {job.product} {job.version}: {job.stage}" for job in status.jobs]
    lines.append(f"Reports waiting to be sent: {status.reports_waiting}.")
    if status.log_requests:
        lines.append("The server requested logs, which are being sent.")
    if Path(status.state_dir).exists() and not status.is_writable:
        lines.append(f"{status.state_dir} cannot be written: nothing can be installed.")
    return "\n".join(lines)


def _health_text(health: BundleHealth) -> str:
    text = "healthy" if health.healthy else "not healthy"
    if health.restarts:
        text += f", {health.restarts} unexpected exit{'s' if health.restarts > 1 else ''} in the last 10 minutes"
    return f"{text}: {one_line(health.message)}" if health.message else text


def as_json(status: Status) -> str:
    """Return the status as JSON for programs."""
    return json.dumps(asdict(status), indent=2)


def _state(state_dir: Path) -> State:
    try:
        return decode(read_limited(state_dir / FILE, MAX_SIZE)).state
    except FileNotFoundError:
        return State()
    except OSError as error:
        raise BrokenState(f"The journal in {state_dir} cannot be read: {error.strerror}.") from None
    except ValueError:
        raise BrokenState(
            f"The journal in {state_dir} is damaged. The agent moves it aside when it starts. The installed releases"
            " are not affected."
        ) from None


def _release(release: Release | None) -> ReleaseStatus | None:
    if release is None:
        return None
    return ReleaseStatus(
        release.version, release.manifest_sha256, release.deployment_id, release.is_observed, release.stopped
    )
