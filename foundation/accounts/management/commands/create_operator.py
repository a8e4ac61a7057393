"""Make a person who may sign in to the admin, with an API token for their scripts on request."""

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
    help = "Make an operator with all rights in the admin. An existing operator keeps the password."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="the name to sign in with")
        parser.add_argument(
            "--password-stdin",
            action="store_true",
            help="read the password from standard input; otherwise one is made and shown",
        )
        parser.add_argument(
            "--token", choices=Role.values, help="also issue an API token with this role and show it once"
        )
        parser.add_argument("--json", action="store_true", help="one JSON object instead of lines for people")

    def handle(self, *args: Any, **options: Any) -> None:
        name, role = options["name"], options["token"]
        result: dict[str, str] = {"name": name}
        user = User.objects.filter(username=name).first()
        if user is None:
            password = sys.stdin.readline().strip() if options["password_stdin"] else secrets.token_urlsafe(12)
            user = self.make(name, password)
            if not options["password_stdin"]:
                result["password"] = password
        if role:
            _, result["token"] = ApiToken.issue(user, role, f"{name}'s {role} token", actor=ACTOR)
        self.stdout.write(
            json.dumps(result) if options["json"] else "\n".join(f"{key}: {value}" for key, value in result.items())
        )

    def make(self, name: str, password: str) -> User:
        """Make a superuser. Raises `CommandError` if the name or the password is refused."""
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
