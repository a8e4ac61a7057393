"""Fixtures for the tests of the devices app."""

import pytest

from devices.models import Device, Group
from tests.devices.actors import alice, device, make_signing, stranger, victor
from tests.devices.signing import SigningDevice
from tests.factories import make_group

__all__ = ["alice", "device", "make_signing", "stranger", "victor"]


@pytest.fixture
def group(db: None) -> Group:
    return make_group("lab")


@pytest.fixture
def row(device: SigningDevice) -> Device:
    """The database row of `device`."""
    return Device.objects.get(pk=device.id)
