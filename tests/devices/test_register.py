"""POST /devices/register."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from nacl.signing import SigningKey

from devices.models import Device, EnrolmentToken
from foundation.events.models import Event
from tests.devices.signing import SigningDevice, key_text
from tests.factories import make_enrolment_token, make_group


@pytest.fixture
def newcomer(db: None, client: Client) -> SigningDevice:
    """A machine whose key is not registered."""
    return SigningDevice(client)


def code(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["code"]


def test_it_registers_an_accepted_device(newcomer: SigningDevice) -> None:
    token, secret = make_enrolment_token(group=make_group("fast", interval_seconds=2))
    response = newcomer.register(secret, name="Door 7", hardware={"memory": 1})
    device = Device.objects.get()
    assert response.status_code == 201
    assert response.json() == {"device_id": str(device.id), "state": "accepted", "interval_seconds": 2}
    assert (device.public_key, device.state, device.group.name) == (newcomer.public_key, "accepted", "fast")
    assert (device.name, device.device_type, device.hardware) == ("Door 7", "edge", {"memory": 1})
    assert device.accepted_at is not None
    token.refresh_from_db()
    assert token.uses == 1
    event = Event.objects.get(kind="device.registered")
    assert (event.device_id, event.actor, event.data) == (device.id, "device", {"token": str(token.id)})
    assert newcomer.heartbeat().json()["state"] == "accepted"


def test_it_puts_a_device_into_the_approval_queue(newcomer: SigningDevice) -> None:
    _, secret = make_enrolment_token(accepts_at_once=False)
    assert newcomer.register(secret).json()["state"] == "pending"
    assert Device.objects.get().accepted_at is None
    assert newcomer.heartbeat().json()["state"] == "pending"


def test_a_token_with_a_suffix_is_refused(newcomer: SigningDevice) -> None:
    response = newcomer.register(make_enrolment_token()[1] + "." + "ab" * 32)
    assert code(response) == (403, "bad_token")


def test_a_registered_key_spends_no_use(newcomer: SigningDevice) -> None:
    token, secret = make_enrolment_token(uses_allowed=5)
    first = newcomer.register(secret)
    again = newcomer.register(secret)
    assert (again.status_code, again.json()) == (200, first.json())
    token.refresh_from_db()
    assert token.uses == 1
    assert Event.objects.filter(kind="device.registered").count() == 1


def test_the_same_key_keeps_its_group_after_its_token_ended(newcomer: SigningDevice) -> None:
    token, secret = make_enrolment_token()
    first = newcomer.register(secret)
    token.revoke("operator:alice")
    assert newcomer.register(secret).json() == first.json()
    other = make_enrolment_token(group=make_group("other"))
    assert newcomer.register(other[1]).json() == first.json()
    assert Device.objects.get().group.name == "lab"
    other[0].refresh_from_db()
    assert other[0].uses == 0


ENDED: list[dict[str, Any]] = [
    {"expires_at": timezone.now() - timedelta(seconds=1)},
    {"revoked_at": timezone.now()},
    {"uses": 1},
]


@pytest.mark.parametrize("end", ENDED, ids=["expired", "revoked", "used up"])
def test_it_refuses_a_token_that_ended(newcomer: SigningDevice, end: dict[str, Any]) -> None:
    token, secret = make_enrolment_token()
    EnrolmentToken.objects.filter(pk=token.pk).update(**end)
    assert code(newcomer.register(secret)) == (403, "bad_token")
    assert not Device.objects.exists()


@pytest.mark.parametrize("secret", ["kxe_" + "A" * 43, "kxe_", "x", "kxe_" + "A" * 43 + ".xyz", "kxa_" + "A" * 43])
def test_it_refuses_an_unknown_token(newcomer: SigningDevice, secret: str) -> None:
    make_enrolment_token()
    assert code(newcomer.register(secret)) == (403, "bad_token")


def test_each_device_spends_a_use(client: Client, db: None) -> None:
    token, secret = make_enrolment_token(uses_allowed=2)
    assert [SigningDevice(client).register(secret).status_code for _ in range(3)] == [201, 201, 403]
    token.refresh_from_db()
    assert token.uses == 2


def test_a_decommissioned_key_is_refused(newcomer: SigningDevice) -> None:
    token, secret = make_enrolment_token(uses_allowed=5)
    newcomer.register(secret)
    Device.objects.get().decommission("operator:alice")
    assert code(newcomer.register(secret)) == (403, "decommissioned")
    token.refresh_from_db()
    assert token.uses == 1
    assert Device.objects.get().state == "decommissioned"


def test_it_refuses_to_register_another_key(newcomer: SigningDevice) -> None:
    token, secret = make_enrolment_token()
    response = newcomer.register(secret, public_key=key_text(SigningKey.generate()))
    assert code(response) == (400, "key_mismatch")
    token.refresh_from_db()
    assert token.uses == 0


def test_it_refuses_an_unsigned_request(newcomer: SigningDevice) -> None:
    _, secret = make_enrolment_token()
    body = {"token": secret, "public_key": newcomer.public_key, "device_type": "edge", "hardware": {}}
    assert code(newcomer.call("POST", "/devices/register", body, forge={"Signature": None})) == (401, "not_signed")
    assert code(newcomer.call("POST", "/devices/register", body, created=1)) == (401, "clock_skew")
    assert not Device.objects.exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("token", None),
        ("token", "x" * 201),
        ("public_key", "x"),
        ("public_key", "A" * 42 + "B"),
        ("device_type", ""),
        ("device_type", "No Type"),
        ("device_type", "x" * 64),
        ("hardware", []),
        ("hardware", {"x": "y" * 20_000}),
        ("hardware", {"x": -1e300}),
        ("hardware", {"x": 1e-308}),
        ("name", "x" * 101),
        ("name", {}),
    ],
)
def test_it_names_the_invalid_field(newcomer: SigningDevice, field: str, value: Any) -> None:
    response = newcomer.register(**{"token": make_enrolment_token()[1], field: value})
    assert code(response) == (400, "invalid")
    assert list(response.json()["error"]["fields"]) == [field]


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b'{"name": "\\u0000"}', b'"\xff"'])
def test_it_refuses_a_malformed_body(newcomer: SigningDevice, body: bytes) -> None:
    assert newcomer.call("POST", "/devices/register", body).status_code in {400, 415}


def test_registering_needs_few_queries(
    newcomer: SigningDevice, django_assert_max_num_queries: Callable[[int], Any]
) -> None:
    _, secret = make_enrolment_token()
    with django_assert_max_num_queries(10):
        newcomer.register(secret)
    with django_assert_max_num_queries(2):
        newcomer.register(secret)
