"""Fixtures for the conftest files: devices that sign their requests, and people with API tokens."""

from collections.abc import Callable

import pytest
from django.test import Client

from tests.devices.operators import Person
from tests.devices.signing import SigningDevice
from tests.factories import make_device, make_token, make_user


@pytest.fixture
def make_signing(db: None, client: Client) -> Callable[..., SigningDevice]:
    """Return a function that makes devices: rows in the database that can sign."""

    def make(**fields: object) -> SigningDevice:
        device = SigningDevice(client)
        device.id = make_device(public_key=device.public_key, **fields).id
        return device

    return make


@pytest.fixture
def device(make_signing: Callable[..., SigningDevice]) -> SigningDevice:
    """An accepted device in the group `lab`."""
    return make_signing()


@pytest.fixture
def alice(db: None, client: Client) -> Person:
    """An operator."""
    return Person(client, make_token(make_user("alice"), "operator"))


@pytest.fixture
def victor(db: None, client: Client) -> Person:
    """A person who may only read."""
    return Person(client, make_token(make_user("victor"), "viewer"))


@pytest.fixture
def stranger(db: None, client: Client) -> Person:
    """A person without a token."""
    return Person(client, "")
