"""Each test of bundles has a separate storage directory and publisher."""

from pathlib import Path

import pytest
from django.test import Client
from pytest_django.fixtures import Settings

from tests.bundles.publisher import Publisher
from tests.factories import make_token, make_user


@pytest.fixture(autouse=True)
def storage(tmp_path: Path, settings: Settings) -> Path:
    directory = tmp_path / "storage"
    settings.STORAGE_DIR = directory
    settings.STORAGES = settings.STORAGES | {
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": directory}}
    }
    return directory


@pytest.fixture
def publisher(db: None, client: Client) -> Publisher:
    return Publisher(client, make_token(make_user("alice"), "publisher"))


@pytest.fixture
def bob(db: None, client: Client) -> Publisher:
    """Another publisher."""
    return Publisher(client, make_token(make_user("bob"), "publisher"))


@pytest.fixture
def viewer(db: None, client: Client) -> Publisher:
    """A viewer."""
    return Publisher(client, make_token(make_user("victor"), "viewer"))


@pytest.fixture
def stranger(client: Client) -> Publisher:
    """A client without a token."""
    return Publisher(client, "")
