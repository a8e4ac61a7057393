"""Create an account for the admin, and optionally an API token."""

import json
import secrets
import sys
from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from foundation.accounts.models import ApiToken, Role
from foundation.events.models import record_event

ACTOR = "manage.py"


class Command(BaseCommand):
    help = "Create a superuser for the admin. If the name exists, the account and its password stay unchanged."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="the user name")
        parser.add_argument(
            "--password-stdin",
            action="store_true",
            help="read the password from standard input; otherwise one is generated and shown",
        )
        parser.add_argument(
            "--token", choices=Role.values, help="also issue an API token with this role, which is shown once"
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines for people")

    def handle(self, *args: Any, **options: Any) -> None:
        name, role = options["name"], options["token"]
        result: dict[str, str] = {"name": name}
        user = User.objects.filter(username=name).first()
        if user is None:
            password = sys.stdin.readline().strip() if options["password_stdin"] else secrets.token_urlsafe(12)
            user = self.create(name, password)
            if not options["password_stdin"]:
                result["password"] = password
        if role:
            _, result["token"] = ApiToken.issue(user, role, f"{name}'s {role} token", actor=ACTOR)
        self.stdout.write(
            json.dumps(result) if options["json"] else "\n".join(f"{key}: {value}" for key, value in result.items())
        )

    def create(self, name: str, password: str) -> User:
        """Create a superuser. Raises `CommandError` if the name or the password is refused."""
        user = User(username=name, is_staff=True, is_superuser=True)
        try:
            user.set_password(password)
            user.full_clean(exclude=["password"])
            validate_password(password, user)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        with transaction.atomic():
            user.save()
            record_event(
                "user.added",
                f"User {user} was added, with all rights.",
                actor=ACTOR,
                object=name,
                object_id=user.pk,
                changes={"is_superuser": True},
            )
        return user
