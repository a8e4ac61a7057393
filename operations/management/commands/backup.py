"""Keeps what the control plane knows, so that it can be had again elsewhere."""

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from foundation.errors import Unavailable
from foundation.progress_bar import tracker
from operations.backups.create import make
from operations.backups.destinations import PlaceFailed, place_at
from operations.backups.pg_dump import DumpFailed

SHOWN = 10


class Command(BaseCommand):
    help = (
        "Back up the database and the list of blobs, beside a running control plane. On a local disk add --blobs, and "
        "the blobs come along; each is copied to a place once. Exit code 1: it failed, or storage has lost blobs."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("place", help="a directory, or s3://BUCKET/PREFIX (opened by the STORAGE_ variables)")
        parser.add_argument("--blobs", action="store_true", help="copy blobs, too, unless the place holds them")
        parser.add_argument("--programs", type=Path, help="the directory of pg_dump; else it is looked for on PATH")
        parser.add_argument("--json", action="store_true", help="one JSON object instead of lines for people")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            name, about = make(
                place_at(options["place"]),
                with_blobs=options["blobs"],
                programs=options["programs"],
                track=tracker(sys.stderr),
            )
        except (DumpFailed, PlaceFailed, Unavailable) as error:
            raise CommandError(str(error)) from None
        if options["json"]:
            self.stdout.write(json.dumps({"name": name, **about}))
        else:
            self.show(name, about, options)
        if lost := about["blobs"]["lost"]:
            raise CommandError(
                f"The backup stands, but storage has lost {len(lost)} of its blobs, or holds something else in their"
                f" place: push their bundles again. {', '.join(lost[:SHOWN])}"
            )

    def show(self, name: str, about: dict[str, Any], options: dict[str, Any]) -> None:
        copied = "with them" if options["blobs"] else "not copied: keep your storage, or add --blobs"
        self.stdout.write(f"{name}: {about['dump']['size']} bytes, {about['devices']} devices.")
        self.stdout.write(f"{about['blobs']['count']} blobs, {copied}.")
