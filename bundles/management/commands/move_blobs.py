"""Move the blobs of a local disk into the bucket that the settings name."""

import json
import sys
from argparse import ArgumentParser
from dataclasses import asdict, dataclass, field
from typing import Any

from django.conf import settings
from django.core.files.storage import storages
from django.core.management.base import BaseCommand, CommandError

from bundles.errors import DamagedBlob
from bundles.storage import migration
from bundles.storage.disk import DiskBlobs
from bundles.storage.s3_client import Bucket
from foundation.errors import ApiError
from foundation.formatting import size
from foundation.progress_bar import Bar


@dataclass
class Moved:
    """The result of one run: the bytes moved, the blobs left on disk, and those of them that are damaged."""

    moved: int = 0
    bytes: int = 0
    left: int = 0
    damaged: list[str] = field(default_factory=list)


class Command(BaseCommand):
    help = (
        "Move bundles from STORAGE_DIR into STORAGE_BUCKET while the control plane runs. The command can be stopped "
        "and run again. Exit code 1: some blobs are left on disk."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--copy", action="store_true", help="copy and delete nothing, before the control plane uses the bucket"
        )
        parser.add_argument("--json", action="store_true", help="one JSON object instead of lines for people")

    def handle(self, *args: Any, **options: Any) -> None:
        bucket, disk = storages["default"], DiskBlobs(settings.STORAGE_DIR)
        if not isinstance(bucket, Bucket):
            raise CommandError(
                "No bucket is configured. Set STORAGE_BUCKET, STORAGE_ENDPOINT_URL and their key; keep STORAGE_DIR."
            )
        try:
            done = self.move(bucket, disk, options["copy"], Bar(sys.stderr, "blobs", in_bytes=True))
        except ApiError as error:
            raise CommandError(f"{error.message} What was moved stays moved: run this again.") from error
        if options["json"]:
            self.stdout.write(json.dumps(asdict(done)))
        else:
            self.print_result(done, options["copy"])
        if (done.left and not options["copy"]) or done.damaged:
            sys.exit(1)

    def move(self, bucket: Bucket, disk: DiskBlobs, copy_only: bool, bar: Bar) -> Moved:
        """Move every blob on disk, including those that the scheduler stores there in the meantime."""
        done, tried = Moved(), set[str]()
        while blobs := [blob for blob in migration.remaining_blobs(disk) if blob.sha256 not in tried]:
            bar.total += sum(blob.size for blob in blobs)
            for blob in blobs:
                tried.add(blob.sha256)
                try:
                    migration.copy_blob(bucket, disk, blob.sha256, bar.advance)
                except DamagedBlob as error:
                    done.damaged.append(str(error))
                    continue
                if not copy_only:
                    migration.delete_from_disk(disk, blob.sha256)
                done.moved += 1
                done.bytes += blob.size
        bar.end()
        if not copy_only and not migration.finish(disk):
            done.left = max(1, len(migration.remaining_blobs(disk)))
        return done

    def print_result(self, done: Moved, copy_only: bool) -> None:
        for reason in done.damaged:
            self.stderr.write(f"not moved: {reason}")
        verb = "Copied" if copy_only else "Moved"
        self.stdout.write(f"{verb} {done.moved} blobs ({size(done.bytes)}).")
        if done.left:
            self.stdout.write("Some blobs or uploads are still on disk and served from there: run this again.")
        elif not copy_only:
            self.stdout.write("Nothing is left on disk: STORAGE_DIR is no longer used.")
