"""Factories for the objects that tests need."""

import hashlib
import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import uuid4

from django.contrib.auth.models import User
from django.utils import timezone

from bundles.manifest import read
from bundles.models import Blob, Bundle
from bundles.publishing import draft
from bundles.storage.interface import blobs
from deployments.definition import Definition, start
from deployments.models import FINAL_STATES, Deployment, DeviceDeployment, DeviceDeploymentState
from deployments.phases.advance import advance
from deployments.planning import plan
from deployments.termination import finish
from devices.models import Device, EnrolmentToken, Group
from foundation.accounts.models import ApiToken


def make_user(username: str = "alice") -> User:
    """Return a superuser, so that the permissions of an API token depend only on its role."""
    return User.objects.get_or_create(username=username, defaults={"is_superuser": True})[0]


def make_token(user: User, role: str) -> str:
    """Return the secret of a new API token."""
    return ApiToken.issue(user, role, "a test", actor="operator:alice")[1]


def make_group(name: str = "lab", **fields: Any) -> Group:
    return Group.objects.get_or_create(name=name, defaults=fields)[0]


def make_enrolment_token(**fields: Any) -> tuple[EnrolmentToken, str]:
    """Return a usable enrolment token and its secret string."""
    defaults: dict[str, Any] = {
        "name": "a token",
        "expires_at": timezone.now() + timedelta(hours=1),
        "accepts_at_once": True,
        "actor": "operator:alice",
    }
    defaults |= fields
    if "group" not in defaults:
        defaults["group"] = make_group()
    return EnrolmentToken.issue(**defaults)


def make_device(**fields: Any) -> Device:
    """Create a device, by default accepted and in the group `lab`."""
    defaults: dict[str, Any] = {
        "public_key": secrets.token_urlsafe(32)[:42] + "A",
        "device_type": "edge",
        "state": "accepted",
    }
    defaults |= fields
    if "group" not in defaults:
        defaults["group"] = make_group()
    return Device.objects.create(**defaults)


def make_bundle(
    label: str = "vad@1.0.0", contents: Mapping[str, bytes] | None = None, *, state: str = "ready", **fields: Any
) -> Bundle:
    """Create a bundle and store its blobs. `fields` are further fields of its manifest."""
    name, _, version = label.partition("@")
    contents = {"model.onnx": b"a model"} if contents is None else contents
    files = [
        {"path": path, "sha256": store_blob(content), "size": len(content), "mode": 0o644}
        for path, content in sorted(contents.items())
    ]
    manifest = {"schema": 1, "name": name, "version": version, "files": files, **fields}
    bundle, _ = draft(read(manifest), actor="operator:alice", user=None)
    Bundle.objects.filter(pk=bundle.pk).update(state=state, ready_at=timezone.now())
    bundle.refresh_from_db()
    return bundle


def store_blob(content: bytes) -> str:
    """Store a blob and its database row. Return its SHA-256 in hexadecimal."""
    sha256, upload = hashlib.sha256(content).hexdigest(), uuid4()
    blobs().write(upload, 0, [content], lambda: True)
    with blobs().sealed(upload) as sealed:
        sealed.promote(sha256)
    blobs().discard(upload)
    Blob.objects.get_or_create(sha256=sha256, size=len(content))
    return sha256


def make_deployment(bundle: Bundle, *devices: Device, **fields: Any) -> Deployment:
    """Create a running deployment whose devices wait. `fields` are further fields of its `Definition`."""
    deployment = make_planning_deployment(bundle, *devices, **fields)
    plan()
    deployment.refresh_from_db()
    return deployment


def make_planning_deployment(bundle: Bundle, *devices: Device, **fields: Any) -> Deployment:
    """Create a deployment that the scheduler has not planned yet."""
    definition = Definition(bundle, devices=[device.pk for device in devices], **fields)
    return start(definition, actor="operator:alice")


def complete() -> int:
    """Run the scheduler's tasks that bring deployments to their end. Return how many have finished."""
    advance()
    return finish()


def make_device_deployment(
    state: str = DeviceDeploymentState.WAITING, *, device: Device | None = None, bundle: Bundle | None = None
) -> DeviceDeployment:
    """Create a running deployment with one device deployment in the given state. Return the device deployment."""
    device = device or make_device()
    bundle = bundle or Bundle.objects.filter(name="vad", version="1.0.0").first() or make_bundle()
    deployment = make_deployment(bundle, device)
    now = timezone.now()
    fields: dict[str, Any] = {"state": state}
    if state != DeviceDeploymentState.WAITING:
        fields |= {"offered_at": now, "deadline_at": now + timedelta(hours=1)}
    if state in FINAL_STATES:
        fields |= {"finished_at": now}
    DeviceDeployment.objects.filter(deployment=deployment).update(**fields)
    return DeviceDeployment.objects.get(deployment=deployment)
