"""Release deployments that are held after a restore."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError

from deployments.models import Hold
from foundation.errors import ApiError


class Command(BaseCommand):
    help = "Let held deployments continue. Look at the running deployments first: they may install older versions."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            hold = Hold.release(actor="manage.py")
        except ApiError as error:
            raise CommandError(error.message) from None
        self.stdout.write(f"Released; they were {hold}.")
