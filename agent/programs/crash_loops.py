"""The time after an installation in which a crash loop still rolls it back.

Starts are counted in the journal, so that a release which takes the whole machine down with it is found out as well.
The time is this process's own: a device may have no clock. An agent that starts anew lets the release bake anew.
"""

import logging
import time

from agent.config import Config
from agent.jobs.journal import Journal
from agent.jobs.state import Job, Kind

log = logging.getLogger(__name__)


class Bake:
    """Watches the releases that are not proven yet."""

    def __init__(self, config: Config, journal: Journal) -> None:
        self.config = config
        self.journal = journal
        self.since: dict[tuple[str, str], float] = {}

    def may_start(self, product: str) -> bool:
        """Count a start of a product's program. False when that was one too many, and the way back is begun."""
        installed = self.journal.state.installed(product)
        current = installed.current
        if current is None or not current.is_baking:
            return True
        if current.starts >= self.config.crash_loop_starts and installed.previous is not None:
            self._go_back(product)
            return False
        with self.journal.change() as state:
            counted = state.product(product).current
            if counted is not None:
                counted.starts += 1
        return True

    def poll(self) -> None:
        """Note which releases have baked long enough."""
        for product, installed in self.journal.state.products.items():
            current = installed.current
            if current is None or not current.is_baking:
                continue
            since = self.since.setdefault((product, current.manifest_sha256), time.monotonic())
            if time.monotonic() - since >= self.config.bake_seconds:
                with self.journal.change() as state:
                    proven = state.product(product).current
                    if proven is not None:
                        proven.is_baking, proven.starts = False, 0
                del self.since[product, current.manifest_sha256]

    def _go_back(self, product: str) -> None:
        with self.journal.change() as state:
            state.add_urgent(Job(Kind.CRASH_LOOP, product, request_id=product))
        log.error("%s crashes again and again; going back to the previous release.", product)
