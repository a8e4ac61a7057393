"""People with a browser: each in a client of its own, logged in with exactly these permissions."""

from collections.abc import Callable
from pathlib import Path

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from pytest_django.fixtures import Settings

Login = Callable[..., Client]


@pytest.fixture(autouse=True)
def own_files(tmp_path: Path, settings: Settings) -> None:
    """Blobs in a directory of this test; static files as they lie in the source."""
    location = {"location": tmp_path / "storage"}
    settings.STORAGES = {
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": location},
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }


@pytest.fixture
def login(db: None) -> Login:
    """Logs a member of staff in: `login("victor", "devices.view_device")`."""

    def as_person(username: str, *permissions: str, is_staff: bool = True, is_superuser: bool = False) -> Client:
        user = User.objects.create_user(username, password=None, is_staff=is_staff, is_superuser=is_superuser)
        for permission in permissions:
            room, codename = permission.split(".")
            user.user_permissions.add(Permission.objects.get(content_type__app_label=room, codename=codename))
        client = Client()
        client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        return client

    return as_person


@pytest.fixture
def alice(login: Login) -> Client:
    """May do everything."""
    return login("alice", is_superuser=True)


@pytest.fixture
def victor(login: Login) -> Client:
    """May look at everything and change nothing."""
    rooms = {
        "devices": ("device", "group", "enrolmenttoken"), "bundles": ("bundle",), "deployments": ("deployment",),
        "events": ("event",), "tokens": ("apitoken",), "auth": ("user",),
    }  # fmt: skip
    return login("victor", *(f"{room}.view_{model}" for room, models in rooms.items() for model in models))
