"""The server's time, as far as this device knows it."""

import threading
import time
from datetime import datetime


class Clock:
    """This device's clock plus an offset of any size, which is learned from the server.

    It is used only for `created` in signatures. Thread-safe.
    """

    def __init__(self) -> None:
        self._offset = 0.0
        self._lock = threading.Lock()

    def now(self) -> int:
        """Return the seconds since 1970 by the server's time."""
        with self._lock:
            return max(1, int(time.time() + self._offset))

    def synchronize(self, server_time: object) -> bool:
        """Set the offset from the server's time in ISO 8601. If it is not valid, return False and change nothing."""
        try:
            parsed_time = datetime.fromisoformat(str(server_time))
        except ValueError:
            return False
        if parsed_time.tzinfo is None:
            return False
        with self._lock:
            self._offset = parsed_time.timestamp() - time.time()
        return True
