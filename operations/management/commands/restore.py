"""Restore a backup into an empty database."""

import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from foundation.errors import Unavailable
from foundation.progress_bar import tracker
from operations.backups.destinations import DestinationFailed, parse_destination
from operations.backups.pg_dump import DumpFailed
from operations.backups.restore import RestoreRefused, restore
from operations.backups.retention import complete_backups

SHOWN = 10
NEXT = """Deployments are held until you release them: python manage.py release_deployments, or in the admin.
First check what the restore undid: API tokens and enrolment tokens that were revoked, devices that were
decommissioned, and people who were deactivated after the backup are active again. Devices that enrolled after the
backup are unknown and must enrol again."""


class Command(BaseCommand):
    help = (
        "Restore a backup into the empty database of DATABASE_URL, and hold deployments. Without a name, list the"
        " backups. Exit code 1: the restore failed and changed nothing, or it succeeded and blobs are missing."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("destination", help="the directory or s3://BUCKET/PREFIX that was given to `backup`")
        parser.add_argument("name", nargs="?", help="which backup, such as kernex-20260131T120000Z")
        parser.add_argument("--programs", type=Path, help="the directory of pg_restore, if it is not on PATH")
        parser.add_argument("--json", action="store_true", help="print a JSON object instead of text")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            destination = parse_destination(options["destination"])
            if options["name"] is None:
                self.list(complete_backups(destination), options)
                return
            restored = restore(destination, options["name"], programs=options["programs"], track=tracker(sys.stderr))
        except (RestoreRefused, DumpFailed, DestinationFailed, Unavailable) as error:
            raise CommandError(str(error)) from None
        description, missing = restored.description, restored.missing
        if options["json"]:
            self.stdout.write(json.dumps({**description.as_dict(), "missing": missing}))
        else:
            self.stdout.write(f"Restored the state of {description.made_at}, {description.devices} devices.\n{NEXT}")
        if missing:
            names = ", ".join(missing[:SHOWN])
            raise CommandError(
                f"{len(missing)} blobs are in neither storage nor backup; push their bundles again: {names}"
            )

    def list(self, names: list[str], options: dict[str, Any]) -> None:
        if options["json"]:
            self.stdout.write(json.dumps({"backups": names}))
        elif names:
            self.stdout.write("\n".join(names))
        else:
            self.stderr.write(f"{options['destination']} has no complete backup.")
