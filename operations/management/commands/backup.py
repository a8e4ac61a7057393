"""Back up the control plane."""

import json
import sys
from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path
from typing import Any

import psycopg
from django.core.management.base import BaseCommand, CommandError

from foundation.errors import Unavailable
from foundation.progress_bar import tracker
from operations.backups.create import BackupRunning, NotMigrated, create_backup, only_backup
from operations.backups.description import BackupDescription
from operations.backups.destinations import DestinationFailed, parse_destination
from operations.backups.pg_dump import DumpFailed
from operations.backups.retention import delete_old_backups

SHOWN_BLOBS = 10


def positive(text: str) -> int:
    """Parse a positive whole number, as argparse's `type`."""
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


class Command(BaseCommand):
    help = (
        "Back up the database and the list of blobs of a running control plane. If bundles are on a local disk, add "
        "--blobs to copy each blob to the destination once. Exit code 0: the backup is complete. Exit code "
        "1: it failed, another backup is running, or storage has lost blobs."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "destination", help="a directory, or s3://BUCKET/PREFIX (uses the key in STORAGE_ACCESS_KEY)"
        )
        parser.add_argument("--blobs", action="store_true", help="also copy the blobs that the destination lacks")
        parser.add_argument(
            "--keep",
            type=positive,
            metavar="N",
            help="then delete all but the newest N complete backups, and the blobs that only those needed",
        )
        parser.add_argument("--programs", type=Path, help="the directory of pg_dump, if it is not on PATH")
        parser.add_argument("--json", action="store_true", help="print a JSON object instead of a sentence")

    def handle(self, *args: Any, **options: Any) -> None:
        deleted: list[str] = []
        try:
            destination = parse_destination(options["destination"])
            with only_backup():
                name, description = create_backup(
                    destination, with_blobs=options["blobs"], programs=options["programs"], track=tracker(sys.stderr)
                )
                # While blobs are lost, an older backup may be the only one that has them.
                if options["keep"] and not description.blobs.lost:
                    deleted = delete_old_backups(destination, options["keep"])
        except (BackupRunning, NotMigrated, DumpFailed, DestinationFailed, Unavailable) as error:
            raise CommandError(str(error)) from None
        except psycopg.OperationalError as error:
            raise CommandError(f"The database cannot be reached: {str(error).strip()}") from None
        if options["json"]:
            self.stdout.write(json.dumps({"name": name, **description.as_dict(), "deleted": deleted}))
        else:
            self.stdout.write(summary(name, description, deleted))
        if lost := description.blobs.lost:
            raise CommandError(
                f"The backup is complete, but storage has lost or damaged {len(lost)} of its blobs:"
                f" push their bundles again. {', '.join(lost[:SHOWN_BLOBS])}"
            )


def summary(name: str, description: BackupDescription, deleted: list[str]) -> str:
    """Return a one-line summary."""
    blobs = "copied" if description.blobs.are_copied else "not copied: keep your storage, or add --blobs"
    old = f"; deleted {', '.join(deleted)}" if deleted else ""
    return (
        f"{name}: {description.dump.size} bytes, {description.devices} devices,"
        f" {description.blobs.count} blobs ({blobs}){old}."
    )
