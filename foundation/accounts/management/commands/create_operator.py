"""Makes a person who may log in to the admin, and at wish an API token for their scripts."""

import json
import secrets
import sys
from argparse import ArgumentParser
from typing import Any

from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from foundation.accounts.models import ApiToken, Role


class Command(BaseCommand):
    help = "Make an operator with all rights in the admin. An operator who exists keeps their password."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("name", help="the name to log in with")
        parser.add_argument(
            "--password-stdin",
            action="store_true",
            help="read the password from standard input; else one is made and shown",
        )
        parser.add_argument(
            "--token", choices=Role.values, help="also issue an API token with this role and show it once"
        )
        parser.add_argument("--json", action="store_true", help="one JSON object instead of lines for people")

    def handle(self, *args: Any, **options: Any) -> None:
        told: dict[str, str] = {"name": options["name"]}
        user = User.objects.filter(username=options["name"]).first()
        if user is None:
            password = sys.stdin.readline().strip() if options["password_stdin"] else secrets.token_urlsafe(12)
            user = self.make(options["name"], password)
            if not options["password_stdin"]:
                told["password"] = password
        if options["token"]:
            _, told["token"] = ApiToken.issue(user, options["token"], f"{options['name']}'s {options['token']} token")
        self.stdout.write(
            json.dumps(told) if options["json"] else "\n".join(f"{key}: {value}" for key, value in told.items())
        )

    def make(self, name: str, password: str) -> User:
        user = User(username=name, is_staff=True, is_superuser=True)
        try:
            user.set_password(password)
            user.full_clean(exclude=["password"])
            validate_password(password, user)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        user.save()
        return user
