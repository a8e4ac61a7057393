"""A device that signs, as in tests/devices."""

from tests.devices.actors import device, make_signing

__all__ = ["device", "make_signing"]
