"""People who use the admin: each with a Django client that is logged in."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from pytest_django.fixtures import Settings

from tests.live import Live, running


@pytest.fixture(autouse=True)
def plain_static_files(settings: Settings) -> None:
    """Names without hashes: no collectstatic before the tests."""
    backend = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": backend}


@pytest.fixture
def alice(db: None) -> User:
    return User.objects.create_superuser("alice", "alice@example.com", "correct horse battery")


@pytest.fixture
def boss(alice: User) -> Client:
    """A superuser's client."""
    client = Client()
    client.force_login(alice)
    return client


@pytest.fixture
def staff(db: None) -> Callable[..., Client]:
    """Makes clients of staff with some permissions, such as `devices.view_device`."""

    def make(*rights: str, name: str = "bob") -> Client:
        user = User.objects.create_user(name, password="correct horse battery", is_staff=True)
        for right in rights:
            room, codename = right.split(".")
            user.user_permissions.add(Permission.objects.get(content_type__app_label=room, codename=codename))
        client = Client()
        client.force_login(user)
        return client

    return make


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A control plane of this module's own, for the browser."""
    static: Path = tmp_path_factory.mktemp("static")
    with running(tmp_path_factory.mktemp("live"), KERNEX_DEBUG=0, STATIC_ROOT=static) as live:
        yield live
