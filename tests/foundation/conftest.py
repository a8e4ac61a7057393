"""The running control plane and the databases of tests/operations."""

from tests.live import live
from tests.operations.conftest import newest_database, newest_server

__all__ = ["live", "newest_database", "newest_server"]
