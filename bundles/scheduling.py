"""The time-driven steps of this room."""

from bundles.archives.browser_uploads import expire_archives, read_archives
from bundles.uploads.verification import expire_uploads, sweep, verify_bundles, verify_uploads
from foundation.scheduler import Task

TASKS = [
    Task("verify uploads", verify_uploads, every_seconds=1),
    Task("verify bundles", verify_bundles, every_seconds=1),
    Task("expire uploads", expire_uploads, every_seconds=60),
    Task("sweep uploads", sweep, every_seconds=300),
    Task("read archives", read_archives, every_seconds=1),
    Task("expire archives", expire_archives, every_seconds=60),
]
