"""Moves the blobs of a local disk into the bucket that the settings name."""

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
    """What one run did. `left`: blobs that are still on disk; `damaged`: why some of them are."""

    moved: int = 0
    bytes: int = 0
    left: int = 0
    damaged: list[str] = field(default_factory=list)


class Command(BaseCommand):
    help = (
        "Move bundles from STORAGE_DIR into STORAGE_BUCKET while the control plane works. Stop it and run it again as "
        "you like. Exit code 1: something is left."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--copy", action="store_true", help="delete nothing: for before the control plane knows the bucket"
        )
        parser.add_argument("--json", action="store_true", help="one JSON object instead of lines for people")

    def handle(self, *args: Any, **options: Any) -> None:
        bucket, disk = storages["default"], DiskBlobs(settings.STORAGE_DIR)
        if not isinstance(bucket, Bucket):
            raise CommandError("Where to? Set STORAGE_BUCKET, STORAGE_ENDPOINT_URL and their key; keep STORAGE_DIR.")
        try:
            done = self.move(bucket, disk, options["copy"], Bar(sys.stderr, "blobs", in_bytes=True))
        except ApiError as error:
            raise CommandError(f"{error.message} What was moved stays moved: run this again.") from error
        if options["json"]:
            self.stdout.write(json.dumps(asdict(done)))
        else:
            self.tell(done, options["copy"])
        if (done.left and not options["copy"]) or done.damaged:
            sys.exit(1)

    def move(self, bucket: Bucket, disk: DiskBlobs, copy_only: bool, bar: Bar) -> Moved:
        """Also what the scheduler still puts on disk meanwhile: until a look finds nothing more that could be moved."""
        done, tried = Moved(), set[str]()
        while blobs := [blob for blob in migration.left(disk) if blob[0] not in tried]:
            bar.total += sum(length for _, length in blobs)
            for sha256, length in blobs:
                tried.add(sha256)
                try:
                    migration.copy(bucket, disk, sha256, bar.advance)
                except DamagedBlob as error:
                    done.damaged.append(str(error))
                    continue
                if not copy_only:
                    migration.forget(disk, sha256)
                done.moved += 1
                done.bytes += length
        bar.end()
        if not copy_only and not migration.finish(disk):
            done.left = max(1, len(migration.left(disk)))
        return done

    def tell(self, done: Moved, copy_only: bool) -> None:
        for why in done.damaged:
            self.stderr.write(f"not moved: {why}")
        word = "Copied" if copy_only else "Moved"
        self.stdout.write(f"{word} {done.moved} blobs ({size(done.bytes)}).")
        if done.left:
            self.stdout.write("Something is left on disk and is served from there: run this again in a moment.")
        elif not copy_only:
            self.stdout.write("Nothing is left on disk: STORAGE_DIR is no longer used.")
