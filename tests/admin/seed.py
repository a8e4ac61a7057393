"""Data of a small fleet for browser tests and screenshots: `python -m tests.admin.seed` fills DATABASE_URL."""

import hashlib
from datetime import timedelta
from random import Random
from typing import Any

import django

django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.utils import timezone  # noqa: E402

from bundles.models import Bundle  # noqa: E402
from deployments.models import FINAL_STATES, Deployment, DeviceDeployment  # noqa: E402
from deployments.phases.advance import advance  # noqa: E402
from deployments.phases.definition import PhaseDefinition  # noqa: E402
from devices.models import Device, EnrolmentToken, Group, HeartbeatSample  # noqa: E402
from devices.models.health import reported_health  # noqa: E402
from foundation.accounts.models import ApiToken, Role  # noqa: E402
from foundation.events.models import Event, record_event  # noqa: E402
from tests.factories import make_bundle, make_deployment  # noqa: E402

ACTOR = "operator:alice"
SITES = ("warehouse-north", "warehouse-south", "lab")
FAILURES = {
    "rolled_back": ("unhealthy", "health.json says healthy: false: 38 of 40 clips were told apart, 39 are needed"),
    "failed": ("download_failed", "The server answered 503 for 15 minutes."),
    "rejected": ("no_space", "The bundle needs 1.9 GB, 1.2 GB are free below /var/lib/kernex."),
    "timed_out": ("", ""),
}


def seed() -> None:
    """Create 40 devices and several bundles in all states, and running, finished and cancelled deployments."""
    random = Random(7)
    alice = User.objects.filter(is_superuser=True).first()
    groups = [
        Group.create(ACTOR, name=site, description=f"Cameras and sensors of the {site.replace('-', ' ')}")
        for site in SITES
    ]
    devices = [device(random, number, groups[number % 3]) for number in range(40)]
    accepted = [fleet_device for fleet_device in devices if fleet_device.state == "accepted"]
    for group in groups:
        expires_at = timezone.now() + timedelta(days=7)
        EnrolmentToken.issue(
            name=f"first fleet of {group}", group=group, expires_at=expires_at, uses_allowed=50, actor=ACTOR
        )
    ApiToken.issue(alice, Role.PUBLISHER, "build server", actor="operator:alice")
    old, new, vision = bundles()
    report_health(accepted, old)
    finish_deployment(random, make_deployment(old, *accepted[:20], note="First version for everyone"), "finished")
    finish_deployment(random, make_deployment(vision, *accepted[5:12], note="Trial, stopped: too slow"), "cancelled")
    run_deployment(random, make_deployment(new, *accepted[:24], note="Better with wind noise"))
    phases = [
        PhaseDefinition(percent=10, soak_seconds=1800),
        PhaseDefinition(percent=50, manual_gate=True),
        PhaseDefinition(),
    ]
    trip_deployment(make_deployment(vision, *accepted, phases=phases, note="Faster, one site at a time"))
    add_events(random)


def report_health(devices: list[Device], bundle: Bundle) -> None:
    """Let the devices report that they run a bundle: one is unhealthy, one restarts, the others are healthy."""
    for number, fleet_device in enumerate(devices):
        running: dict[str, Any] = {
            "version": bundle.version, "manifest_sha256": bundle.manifest_sha256, "healthy": number != 12,
        }  # fmt: skip
        if number == 12:
            running["message"] = "3 of 5 clips were recognized, 5 are needed"
        if number == 14:
            running["restarts"] = 2
        fleet_device.running_bundles = {bundle.name: running}
        fleet_device.reported_health = reported_health(fleet_device.running_bundles)
        fleet_device.save(update_fields=["running_bundles", "reported_health"])


def bundles() -> tuple[Bundle, Bundle, Bundle]:
    run = {"command": ["python3", "runner.py"]}
    old = make_bundle("vad@1.0.0", {"model/vad.onnx": b"v" * 2_240_512, "runner.py": b"print()\n" * 80}, run=run)
    new = make_bundle("vad@1.1.0", {"model/vad.onnx": b"w" * 2_327_524, "runner.py": b"print()\n" * 80}, run=run)
    vision = make_bundle("shelf-vision@0.9.2", {"model.onnx": b"s" * 9_100_000, "labels.txt": b"box\n"})
    make_bundle("vad@1.2.0-rc1", {"model/vad.onnx": b"x" * 2_400_000}, state="draft")
    make_bundle("shelf-vision@1.0.0", {"model.onnx": b"t" * 9_400_000}, state="verifying", device_types=["jetson"])
    make_bundle("shelf-vision@0.9.1", {"model.onnx": b"u" * 9_000_000}).withdraw(actor=ACTOR)
    Bundle.objects.filter(state__in=["draft", "verifying"]).update(ready_at=None)
    Bundle.objects.update(created_by=User.objects.filter(is_superuser=True).first())
    return old, new, vision


def device(random: Random, number: int, group: Group) -> Device:
    state = "pending" if number in {7, 22, 31} else "decommissioned" if number in {12, 28} else "accepted"
    is_silent = number in {3, 17, 25, 36}
    now = timezone.now()
    last_heartbeat_at: Any = now - (
        timedelta(hours=random.randint(2, 90)) if is_silent else timedelta(seconds=random.randint(0, 50))
    )
    reported: dict[str, Any] = {}
    if state == "accepted":
        reported = {
            "agent_version": "0.1.0", "status": "idle", "boot_id": f"{number:04x}-4b1d",
            "last_heartbeat_at": last_heartbeat_at,
            "metrics": {"cpu_percent": random.randint(3, 60), "memory_free": 812_000_000, "disk_free": 9_400_000_000},
            "running_bundles": {"vad": {"version": "1.0.0", "manifest_sha256": "0" * 64, "healthy": number != 14}},
            "attributes": {"camera": "imx477", "firmware": "2024.11"}, "attributes_version": 3, "accepted_at": now,
        }  # fmt: skip
    created = Device.objects.create(
        public_key=hashlib.sha256(str(number).encode()).hexdigest()[:42] + "A", name=f"edge-{number:03}", group=group,
        state=state, device_type="jetson" if number % 4 == 0 else "edge", tags=["outdoor"] if number % 5 == 0 else [],
        hardware={"model": "Raspberry Pi 5", "memory": 8_000_000_000, "machine": "aarch64"}, **reported,
    )  # fmt: skip
    samples = [
        HeartbeatSample(
            device=created,
            at=last_heartbeat_at - timedelta(minutes=15 * back),
            status="idle",
            metrics={"cpu_percent": 9},
        )
        for back in range(4 if state == "accepted" else 0)
    ]
    HeartbeatSample.objects.bulk_create(samples)
    return created


def set_state(device_deployment: DeviceDeployment, state: str, at: Any, **fields: Any) -> None:
    """Put a device deployment into a state as if the device had reported it."""
    now = timezone.now()
    code, message = FAILURES.get(state, ("", ""))
    fields |= {"state": state, "reason_code": code, "message": message, "state_changed_at": at, "offered_at": at}
    fields |= {"deadline_at": now + timedelta(hours=1), "finished_at": at if state in FINAL_STATES else None}
    DeviceDeployment.objects.filter(pk=device_deployment.pk).update(**fields)


def finish_deployment(random: Random, deployment: Deployment, state: str) -> None:
    at = timezone.now() - timedelta(hours=random.randint(5, 30))
    device_deployments = list(DeviceDeployment.objects.filter(deployment=deployment))
    endings = ["rolled_back", "failed", "rejected"] if state == "finished" else ["timed_out", *["cancelled"] * 4]
    for number, device_deployment in enumerate(device_deployments):
        set_state(
            device_deployment, endings[number] if number < len(endings) else "succeeded", at + timedelta(minutes=number)
        )
    if state == "finished":
        fail_one_late(deployment, at + timedelta(hours=1))
    counts = DeviceDeployment.objects.filter(deployment=deployment).counts()[deployment.pk]
    Deployment.objects.filter(pk=deployment.pk).update(
        state=state, finished_at=at, created_at=at - timedelta(hours=1), final_counts=counts
    )
    record_event(f"deployment.{state}", f"{deployment.bundle} has ended.", actor="scheduler", deployment=deployment.pk)


def fail_one_late(deployment: Deployment, at: Any) -> None:
    """Let one success fail within its observation time."""
    successes = DeviceDeployment.objects.filter(deployment=deployment, state="succeeded").order_by("pk")
    message = "vad 1.0.0 is unhealthy: 3 of 5 clips were recognized, 5 are needed"
    successes.filter(pk=successes.values("pk")[:1]).update(
        late_reason_code="unhealthy", late_message=message, late_at=at
    )
    Deployment.objects.filter(pk=deployment.pk).update(late_failures=1)


def run_deployment(random: Random, deployment: Deployment) -> None:
    states = ["succeeded"] * 11 + ["rolled_back"] + ["checking"] * 2 + ["installing"] * 2 + ["downloading"] * 4
    now = timezone.now()
    for device_deployment, state in zip(DeviceDeployment.objects.filter(deployment=deployment), states, strict=False):
        progress: dict[str, Any] = {}
        if state == "downloading":
            progress = {"bytes_done": 1_400_000, "bytes_total": 2_328_164}
        if state == "succeeded":
            progress = {"observation_ends_at": now + timedelta(minutes=5)}
        set_state(device_deployment, state, now - timedelta(seconds=random.randint(5, 400)), **progress)
    Deployment.objects.filter(pk=deployment.pk).update(created_at=now - timedelta(minutes=9))


def trip_deployment(deployment: Deployment) -> None:
    """Let the first phase trip."""
    advance()
    for number, row in enumerate(DeviceDeployment.objects.filter(deployment=deployment, phase__isnull=False)):
        set_state(row, "rolled_back" if number == 1 else "succeeded", timezone.now() - timedelta(minutes=4))
    advance()


def add_events(random: Random) -> None:
    """Create events and spread them over the past days."""
    for fleet_device in Device.objects.accepted()[:30]:
        record_event("device.registered", f"Device {fleet_device} registered.", actor="device", device=fleet_device.pk)
        record_event("device.approved", f"Device {fleet_device} was approved.", actor=ACTOR, device=fleet_device.pk)
    for fleet_device in Device.objects.offline():
        record_event(
            "device.offline", f"Device {fleet_device} has gone silent.", actor="scheduler", device=fleet_device.pk
        )
    at = timezone.now()
    for event in Event.objects.all():
        at -= timedelta(seconds=random.randint(20, 900))
        Event.objects.filter(pk=event.pk).update(at=at)


if __name__ == "__main__":
    seed()
