"""The time-driven steps of this room."""

from bundles.archives.browser_uploads import expire_archives, read_archives
from bundles.uploads.verification import expire_uploads, sweep, verify_bundles, verify_uploads
from foundation.scheduler import Step

STEPS = [
    Step("verify uploads", verify_uploads, every_seconds=1),
    Step("verify bundles", verify_bundles, every_seconds=1),
    Step("expire uploads", expire_uploads, every_seconds=60),
    Step("sweep uploads", sweep, every_seconds=300),
    Step("read archives", read_archives, every_seconds=1),
    Step("expire archives", expire_archives, every_seconds=60),
]
