"""What the command line's tests share: a control plane, and a home without credentials."""

from tests.live import live  # noqa: F401
