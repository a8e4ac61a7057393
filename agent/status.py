"""What an agent knows, read from its files alone: works while it runs, and changes nothing."""

import json
from pathlib import Path
from typing import Any

from agent.atomic_files import read_limited
from agent.errors import BrokenState
from agent.jobs.journal import FILE, MAX_SIZE, Release, State, decode
from agent.server import enrolment


def read(state_dir: Path) -> dict[str, Any]:
    """Everything that `status` shows. Raises `BrokenState` for a journal that is damaged."""
    state = _state(state_dir)
    known = enrolment.load(state_dir)
    return {
        "state_dir": str(state_dir),
        "server": known.server if known else "",
        "device_id": known.device_id if known else "",
        "state": known.state if known else "not enrolled",
        "interval_seconds": known.interval_seconds if known else None,
        "products": {
            name: {"current": _release(one.current), "previous": _release(one.previous)}
            for name, one in sorted(state.products.items())
        },
        "jobs": [
            {"kind": job.kind, "product": job.product, "version": job.version, "stage": job.stage, "starts": job.starts}
            for job in state.jobs
        ],
        "reports_waiting": len(state.outbox),
    }


def text(found: dict[str, Any]) -> str:
    """The same for people."""
    server = f" at {found['server']}" if found["server"] else ""
    lines = [f"Device {found['device_id'] or '-'}: {found['state']}{server}"]
    for name, product in found["products"].items():
        current, previous = product["current"], product["previous"]
        line = f"{name}: {current['version'] if current else 'nothing'}"
        if current and current["is_baking"]:
            line += " (baking)"
        lines.append(line + (f", before that {previous['version']}" if previous else ""))
    lines += [f"{job['kind']} {job['product']} {job['version']}: {job['stage']}" for job in found["jobs"]]
    lines.append(f"{found['reports_waiting']} reports wait to be delivered.")
    return "\n".join(lines)


def as_json(found: dict[str, Any]) -> str:
    return json.dumps(found, indent=2)


def _state(state_dir: Path) -> State:
    try:
        return decode(read_limited(state_dir / FILE, MAX_SIZE))
    except FileNotFoundError:
        return State()
    except OSError as error:
        raise BrokenState(f"The journal in {state_dir} cannot be read: {error.strerror}.") from None
    except (ValueError, TypeError, KeyError, AttributeError):
        raise BrokenState(
            f"The journal in {state_dir} is damaged. The agent puts it aside when it starts; what is installed stays."
        ) from None


def _release(release: Release | None) -> dict[str, Any] | None:
    if release is None:
        return None
    return {
        "version": release.version, "manifest_sha256": release.manifest_sha256,
        "deployment_id": release.deployment_id, "is_baking": release.is_baking,
    }  # fmt: skip
