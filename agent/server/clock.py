"""The server's clock, as far as this device knows it."""

import threading
import time
from datetime import datetime


class Clock:
    """The time to sign with: this device's clock and an offset that the server taught, of any size.

    It serves `created` alone. Nothing else believes it.
    """

    def __init__(self) -> None:
        self._offset = 0.0
        self._lock = threading.Lock()

    def now(self) -> int:
        with self._lock:
            return max(1, int(time.time() + self._offset))

    def learn(self, server_time: object) -> bool:
        """Take the server's time (ISO 8601). False if it is none."""
        try:
            moment = datetime.fromisoformat(str(server_time))
        except ValueError:
            return False
        if moment.tzinfo is None:
            return False
        with self._lock:
            self._offset = moment.timestamp() - time.time()
        return True
