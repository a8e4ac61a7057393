"""The signing device of tests/devices."""

from tests.devices.actors import device, make_signing

__all__ = ["device", "make_signing"]
