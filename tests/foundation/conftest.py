"""The running control plane and the databases of tests/operations."""

from tests.live import live
from tests.operations.conftest import new_place, newest

__all__ = ["live", "new_place", "newest"]
