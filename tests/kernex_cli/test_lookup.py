"""Lookups by name and short id: one match, no match and several matches."""

from typing import Any

import pytest

from tests.kernex_cli.conftest import Kernex
from tests.kernex_cli.fake_server import FakeServer, error

FIRST, SECOND = "6f0c6a5e-9a53-4a6e-9d5c-0d1f3f0f9b7e", "6f0c6a5e-0000-4a6e-9d5c-0d1f3f0f9b7e"


def device(device_id: str, name: str) -> dict[str, Any]:
    return {"id": device_id, "name": name, "state": "accepted", "group": "lab"}


def page(*documents: object) -> dict[str, Any]:
    return {"next": None, "previous": None, "results": list(documents)}


def approved(at_fake: Kernex, fake: FakeServer, text: str, *devices: dict[str, Any]) -> tuple[int, str, str]:
    """Approve the device that `text` names. Return the exit code, the error output, and the last POST request."""
    fake.responses["GET /devices"] = page(*devices)
    for document in devices:
        fake.responses[f"POST /devices/{document['id']}/approve"] = document
    outcome = at_fake("approve", text)
    posts = [request for request in fake.requests if request.startswith("POST")]
    return outcome.code, outcome.err, posts[-1] if posts else ""


@pytest.mark.parametrize("text", ["6f0c6a5e", "6F0C6A5E", "6f0c", "6f0c6a5e-9a", "6f0c6a5e9a534a6e9d5c0d1f3f0f9b7"])
def test_the_first_digits_of_an_id_name_a_device(at_fake: Kernex, fake: FakeServer, text: str) -> None:
    code, stderr, post = approved(at_fake, fake, text, device(FIRST, "shelf-4"))
    assert (code, stderr, post) == (0, "", f"POST /api/v1/devices/{FIRST}/approve")


def test_an_ambiguous_id_lists_the_candidates(at_fake: Kernex, fake: FakeServer) -> None:
    code, stderr, post = approved(at_fake, fake, "6f0c6a5e", device(FIRST, "shelf-4"), device(SECOND, "door-7"))
    assert (code, post) == (2, "")
    assert "2 devices have an id that begins with '6f0c6a5e'" in stderr
    assert "  6f0c6a5e-9  shelf-4, group lab, accepted\n  6f0c6a5e-0  door-7, group lab, accepted\n" in stderr


def test_an_ambiguous_name_lists_the_candidates(at_fake: Kernex, fake: FakeServer) -> None:
    code, stderr, post = approved(at_fake, fake, "shelf", device(FIRST, "shelf"), device(SECOND, "shelf"))
    assert (code, post) == (2, "")
    assert "2 devices have the name 'shelf'" in stderr


def test_a_name_takes_precedence_over_an_id(at_fake: Kernex, fake: FakeServer) -> None:
    code, _, post = approved(at_fake, fake, "6f0c6a5e", device(FIRST, "shelf-4"), device(SECOND, "6f0c6a5e"))
    assert (code, post) == (0, f"POST /api/v1/devices/{SECOND}/approve")


def test_a_full_id_needs_no_search(at_fake: Kernex, fake: FakeServer) -> None:
    assert approved(at_fake, fake, FIRST.upper(), device(FIRST, "shelf-4"))[0] == 0
    assert fake.count("GET") == 0


def test_a_misspelt_device_gets_a_similar_name_suggested(at_fake: Kernex, fake: FakeServer) -> None:
    code, stderr, _ = approved(at_fake, fake, "shlef-4", device(FIRST, "shelf-4"), device(SECOND, ""))
    assert code == 2
    assert "Did you mean `shelf-4`?" in stderr


def deployment(deployment_id: str) -> dict[str, Any]:
    return {"id": deployment_id, "bundle": "vad@1", "state": "cancelled", "created_at": "2026-01-02T03:04:05.6Z"}


def test_the_first_digits_of_an_id_name_a_deployment(at_fake: Kernex, fake: FakeServer) -> None:
    fake.responses["GET /deployments"] = page(deployment(FIRST), deployment(SECOND))
    fake.responses[f"POST /deployments/{FIRST}/cancel"] = deployment(FIRST)
    assert at_fake("cancel", "6f0c6a5e-9").code == 0
    ambiguous = at_fake("cancel", "6f0c6a5e")
    assert ambiguous.code == 2
    assert "  6f0c6a5e-0  vad@1, created 2026-01-02 03:04:05Z\n" in ambiguous.err
    assert at_fake("cancel", "abcdef12").code == 2
    assert fake.count("POST") == 1


def test_a_misspelt_group_gets_a_similar_name_suggested(at_fake: Kernex, fake: FakeServer) -> None:
    fake.responses["GET /groups"] = page({"name": "canary"}, {"name": "field"})
    fake.responses["GET /devices"] = page()
    fields = {"group": ["There is no group `canry`."]}
    unknown = {"error": {"code": "invalid", "message": "Some fields are wrong.", "fields": fields}}
    fake.fail("POST /api/v1/deployments", error(400, "unknown_groups", "There is no group `canry`."))
    fake.fail("POST /api/v1/enrolment-tokens", (400, unknown))
    for arguments in (("deploy", "vad@1", "--group", "canry"), ("token", "create", "--group", "canry")):
        outcome = at_fake(*arguments)
        assert outcome.code == 4
        assert "Did you mean `canary`?" in outcome.err
    listed = at_fake("devices", "--group", "canry")
    assert (listed.code, "Did you mean `canary`?" in listed.err) == (2, True)


def test_a_misspelt_bundle_gets_a_similar_name_suggested(at_fake: Kernex, fake: FakeServer) -> None:
    fake.responses["GET /bundles"] = page({"name": "vad", "version": "1.0.1"})
    fake.fail("POST", error(404, "unknown_bundle", "There is no bundle vad@1.0.2."))
    outcome = at_fake("deploy", "vad@1.0.2", "--group", "lab")
    assert outcome.code == 4
    assert "(unknown_bundle) Did you mean `vad@1.0.1`?" in outcome.err
