"""A running control plane and a database of the test's own, as in tests/operations."""

from tests.live import live
from tests.operations.conftest import new_place, newest

__all__ = ["live", "new_place", "newest"]
