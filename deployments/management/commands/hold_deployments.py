"""Hold deployments, for example after the database provider has restored a backup."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from deployments.models import Hold


class Command(BaseCommand):
    help = (
        "Hold deployments until they are released: nothing is offered, and offers that no device has acknowledged are "
        "withdrawn. Run it after your database provider has restored a backup, before the web server and the scheduler "
        "start. `manage.py restore` holds deployments automatically."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("reason", help="shown to operators")

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(f"Deployments are {Hold.begin(options['reason'], actor='manage.py')}.")
