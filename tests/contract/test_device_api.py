"""Tests of the device API against its contract: `device-api.json` has the requests of one device, in order."""

import json
import re
from base64 import urlsafe_b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from nacl.signing import SigningKey
from pytest_django.fixtures import Settings

from deployments.models import Deployment
from deployments.offers import offer
from devices.models import Command, Device, EnrolmentToken, LogRequest
from devices.models.enrolment_token import digest
from tests.devices.signing import SigningDevice
from tests.factories import make_bundle, make_deployment, make_enrolment_token

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES: list[dict[str, Any]] = json.loads((ROOT / "tests/contract/device-api.json").read_text())
SIGNATURES: list[dict[str, Any]] = json.loads((ROOT / "tests/contract/signatures.json").read_text())
DOCUMENT = (ROOT / "docs/device-api.md").read_text()
CONTENT = b"a model\n"


@pytest.fixture(autouse=True)
def storage(tmp_path: Path, settings: Settings) -> None:
    settings.STORAGES = settings.STORAGES | {
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": tmp_path}}
    }


def key() -> SigningKey:
    """Return the key of the device in all examples."""
    return SigningKey(urlsafe_b64decode(SIGNATURES[0]["private_key"] + "="))


class Replay:
    """Replays the examples against the server. `names` maps ids and times of the examples to those of this run."""

    def __init__(self) -> None:
        self.device = SigningDevice(Client(), key=key())
        self.names: dict[str, str] = {}

    def translate(self, value: Any) -> Any:
        """Return a value of an example with the ids and times of this run."""
        text = json.dumps(value, ensure_ascii=False)
        for name, real in self.names.items():
            text = text.replace(name, real)
        return json.loads(text)

    def perform(self, description: str) -> None:
        """Perform the action of an operator that an example names in `after`."""
        actions: dict[str, Callable[[], None]] = {
            "an operator approved the device": lambda: Device.objects.get().approve("operator:alice"),
            "an operator decommissioned the device": lambda: Device.objects.get().decommission("operator:alice"),
            "an operator deployed vad@1.0.0 to the device": self.deploy,
            "an operator requested the device's logs": lambda: self.request_logs(0),
            "the device was reset to an older agent, and an operator requested the device's logs again": (
                lambda: self.request_logs(1)
            ),
        }
        actions[description]()

    def deploy(self) -> None:
        example = next(e for e in EXAMPLES if e.get("after") == "an operator deployed vad@1.0.0 to the device")
        command = example["response"]["body"]["commands"][0]
        with connection.cursor() as cursor:
            cursor.execute("SELECT setval('devices_command_id_seq', %s)", [command["id"] - 1])
        make_deployment(make_bundle("vad@1.0.0", {"model.onnx": CONTENT}), Device.objects.get())
        assert offer() == 1
        self.names[command["payload"]["deployment_id"]] = str(Deployment.objects.get().pk)
        self.names[command["payload"]["deadline_at"]] = Command.objects.get().payload["deadline_at"]

    def request_logs(self, count: int) -> None:
        """Request logs. `count` is the number of earlier requests."""
        examples = [command for command in commands_of(EXAMPLES) if command["kind"] == "send_logs"]
        log_request = LogRequest.open_for(Device.objects.get(), actor="operator:alice").log_request
        self.names[examples[count]["payload"]["request_id"]] = str(log_request.pk)

    def call(self, request: dict[str, Any]) -> Any:
        path = request["path"].removeprefix("/api/v1")
        return self.device.call(
            request["method"],
            self.translate(path),
            self.translate(request["body"]),
            sequence=request.get("sequence"),
            created=request.get("created"),
            forge=request.get("headers"),
        )


def commands_of(examples: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the commands in the responses of the examples."""
    heartbeats = [example["response"]["body"] for example in examples if example["call"] == "heartbeat"]
    return [command for body in heartbeats for command in body.get("commands", [])]


def body_of(response: Any) -> Any:
    if response["Content-Type"] == "application/json":
        return json.loads(response.content)
    return b"".join(response).decode() if response.streaming else response.content.decode()


def comparable(body: Any) -> Any:
    """Return a body without the values that may differ: an error's message, the time and sizes."""
    if isinstance(body, dict) and "error" in body:
        return {name: value for name, value in body["error"].items() if name not in {"message", "server_time", "size"}}
    return body


@pytest.mark.django_db
def test_the_server_responds_as_in_the_examples() -> None:
    replay = Replay()
    token, _ = make_enrolment_token(accepts_at_once=False)
    EnrolmentToken.objects.filter(pk=token.pk).update(secret_sha256=digest(EXAMPLES[0]["request"]["body"]["token"]))
    for example in EXAMPLES:
        if "after" in example:
            replay.perform(example["after"])
        response = replay.call(example["request"])
        assert response.status_code == example["response"]["status"], (example["why"], response)
        body, expected = body_of(response), example["response"]["body"]
        if example is EXAMPLES[0]:
            replay.names[expected["device_id"]] = body["device_id"]
        assert comparable(body) == comparable(replay.translate(expected)), example["why"]


def test_the_examples_cover_every_call_and_the_document_shows_them() -> None:
    assert {example["call"] for example in EXAMPLES} == {
        "register", "heartbeat", "attributes", "logs", "result", "manifest", "blob",
    }  # fmt: skip
    for example in EXAMPLES:
        assert as_documented(example) in DOCUMENT, example["why"]


def test_the_document_shows_the_example_of_a_signature() -> None:
    example = SIGNATURES[0]
    for value in (example["private_key"], example["url"], example["body"], *example["headers"].values()):
        assert value in DOCUMENT


def as_documented(example: dict[str, Any]) -> str:
    """Return an example as the document prints it."""
    request, response = example["request"], example["response"]
    lines = [f"{request['method']} {request['path']}"]
    if "sequence" in request:
        lines.append(f"Kernex-Sequence: {request['sequence']}")
    lines += [f"{name}: {value}" for name, value in request.get("headers", {}).items()]
    if request["body"] is not None:
        lines += ["", as_text(request["body"])]
    lines += ["", str(response["status"]), "", as_text(response["body"])]
    return f"*{example['why']}*\n\n```http\n" + "\n".join(lines) + "\n```\n"


def as_text(body: Any) -> str:
    """Return a body as text, with one field per line if a single line would be long."""
    if isinstance(body, str):
        return body.rstrip("\n")
    line = json.dumps(body, ensure_ascii=False)
    if len(line) <= 110:
        return line
    inner = [f"  {json.dumps(name)}: {json.dumps(value, ensure_ascii=False)}" for name, value in body.items()]
    return "{\n" + ",\n".join(inner) + "\n}"


def test_the_document_names_every_code_of_the_examples() -> None:
    codes = {example["response"]["body"]["error"]["code"] for example in EXAMPLES if is_refusal(example)}
    codes |= {example["code"] for example in SIGNATURES if "code" in example}
    documented = set(re.findall(r"^\| \d{3} \| `([a-z_0-9]+)`", DOCUMENT, re.MULTILINE))
    assert codes <= documented


def is_refusal(example: dict[str, Any]) -> bool:
    return isinstance(example["response"]["body"], dict) and "error" in example["response"]["body"]
