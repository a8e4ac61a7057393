"""Keeps deployments from going on, as after a restore that somebody else made."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from deployments.holding import hold


class Command(BaseCommand):
    help = (
        "Hold deployments until they are released: nothing is offered, and what no device has heard is taken back. For "
        "after a restore by a provider, before web server and scheduler start; `restore` does it by itself."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("reason", help="what operators will read")

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(f"Deployments are {hold(options['reason'], actor='manage.py')}.")
