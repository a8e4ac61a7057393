"""A group, tokens, devices and people for the tests of this room."""

from collections.abc import Callable

import pytest
from django.test import Client

from devices.models import Device, Group
from tests.devices.operators import Person
from tests.devices.signing import SigningDevice
from tests.factories import make_device, make_group, make_token, make_user


@pytest.fixture
def group(db: None) -> Group:
    return make_group("lab")


@pytest.fixture
def make_signing(db: None, client: Client) -> Callable[..., SigningDevice]:
    """Makes devices that are in the database and can sign."""

    def make(**fields: object) -> SigningDevice:
        device = SigningDevice(client)
        device.id = make_device(public_key=device.public_key, **fields).id
        return device

    return make


@pytest.fixture
def device(make_signing: Callable[..., SigningDevice]) -> SigningDevice:
    """An accepted device."""
    return make_signing()


@pytest.fixture
def row(device: SigningDevice) -> Device:
    """The row of `device`."""
    return Device.objects.get(pk=device.id)


@pytest.fixture
def alice(db: None, client: Client) -> Person:
    """An operator."""
    return Person(client, make_token(make_user("alice"), "operator"))


@pytest.fixture
def victor(db: None, client: Client) -> Person:
    """Somebody who may only read."""
    return Person(client, make_token(make_user("victor"), "viewer"))


@pytest.fixture
def stranger(db: None, client: Client) -> Person:
    """Somebody without a token."""
    return Person(client, "")
