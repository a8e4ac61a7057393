"""One deployment from start to end, as the operator and the device see it."""

from bundles.models import Bundle
from deployments.offers import offer
from deployments.planning import plan
from tests.devices.operators import Person
from tests.devices.signing import SigningDevice
from tests.factories import complete


def test_a_deployment_from_start_to_end(alice: Person, bundle: Bundle, device: SigningDevice) -> None:
    started = alice.post("/deployments", {"bundle": "vad@1.0.0", "groups": ["lab"]})
    assert started.status_code == 201, started.content
    deployment = started.json()
    assert deployment["state"] == "planning"
    assert plan() == 1
    assert offer() == 1

    (command,) = device.heartbeat().json()["commands"]
    assert command["kind"] == "deploy"
    payload = command["payload"]
    assert payload["deployment_id"] == deployment["id"]
    assert payload["attempt"] == 1
    assert payload["bundle"] == {
        "name": "vad",
        "version": "1.0.0",
        "manifest_sha256": bundle.manifest_sha256,
        "manifest_size": bundle.manifest_size,
    }
    assert payload["deadline_at"].endswith("Z")

    result = f"/deployments/{deployment['id']}/result"
    for number, state in enumerate(("accepted", "downloading"), 1):
        response = device.call("POST", result, {"attempt": 1, "report": number, "state": state})
        assert (response.status_code, response.json()) == (200, {"state": state})
    manifest = device.call("GET", f"/trust/targets/vad/{bundle.manifest_sha256}.1.0.0.json")
    assert manifest.content.decode() == bundle.manifest
    blob = device.call("GET", f"/blobs/{bundle.files.get().sha256}")
    assert b"".join(blob) == b"a model"
    for number, state in enumerate(("installing", "checking", "succeeded"), 3):
        response = device.call("POST", result, {"attempt": 1, "report": number, "state": state})
        assert (response.status_code, response.json()) == (200, {"state": state})

    assert complete() == 1
    ended = alice.get(f"/deployments/{deployment['id']}").json()
    assert ended["state"] == "finished"
    assert ended["counts"]["succeeded"] == 1
    (row,) = alice.get(f"/deployments/{deployment['id']}/devices").json()["results"]
    assert row["state"] == "succeeded"
    assert set(row["reached_at"]) == {"offered", "accepted", "downloading", "installing", "checking"}
