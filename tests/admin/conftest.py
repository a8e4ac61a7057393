"""Users of the admin, each with a signed-in Django client."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from pytest_django.fixtures import Settings

from tests.live import Live, running


@pytest.fixture(autouse=True)
def plain_static_files(settings: Settings) -> None:
    """Use static file names without hashes, so that tests need no collectstatic."""
    backend = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    settings.STORAGES = {**settings.STORAGES, "staticfiles": backend}


@pytest.fixture
def alice(db: None) -> User:
    return User.objects.create_superuser("alice", "alice@example.com", "correct horse battery")


@pytest.fixture
def boss(alice: User) -> Client:
    """A superuser's signed-in client."""
    client = Client()
    client.force_login(alice)
    return client


@pytest.fixture
def staff(db: None) -> Callable[..., Client]:
    """Return a function that creates a staff user's client with permissions such as `devices.view_device`."""

    def make(*permissions: str, name: str = "bob") -> Client:
        user = User.objects.create_user(name, password="correct horse battery", is_staff=True)
        for permission in permissions:
            app, codename = permission.split(".")
            user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
        client = Client()
        client.force_login(user)
        return client

    return make


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A separate control plane for each module with browser tests."""
    static: Path = tmp_path_factory.mktemp("static")
    with running(tmp_path_factory.mktemp("live"), KERNEX_DEBUG=0, STATIC_ROOT=static) as live:
        yield live
