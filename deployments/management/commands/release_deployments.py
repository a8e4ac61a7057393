"""Lets deployments go on after a restore."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from deployments.holding import release
from foundation.errors import ApiError


class Command(BaseCommand):
    help = "Let deployments go on that are held since a restore. Look first at what they would order."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            held = release(actor="manage.py")
        except ApiError as error:
            raise CommandError(error.message) from None
        self.stdout.write(f"Released; they were {held}.")
