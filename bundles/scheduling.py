"""The scheduler's tasks for bundles."""

from bundles.archives.browser_uploads import ArchiveReader, expire_archives
from bundles.garbage_collection import BlobMarker, collect_blobs, delete_old_rows
from bundles.uploads.verification import delete_leftovers, expire_uploads, verify_bundles, verify_uploads
from foundation.scheduler import Task

TASKS = [
    Task("verify uploads", verify_uploads, every_seconds=1),
    Task("verify bundles", verify_bundles, every_seconds=1),
    Task("expire uploads", expire_uploads, every_seconds=60),
    Task("sweep uploads", delete_leftovers, every_seconds=300),
    Task("read archives", ArchiveReader().run, every_seconds=1),
    Task("expire archives", expire_archives, every_seconds=60),
    Task("mark unused blobs", BlobMarker().mark, every_seconds=300),
    Task("collect blobs", collect_blobs, every_seconds=60),
    Task("delete old uploads", delete_old_rows, every_seconds=3600),
]
