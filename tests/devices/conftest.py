"""A group, a device's row, and who calls the API, for the tests of this room."""

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
    """The row of `device`."""
    return Device.objects.get(pk=device.id)
