"""Fixtures: a bundle, callers of the API, and a separate storage directory for each test."""

from pathlib import Path

import pytest
from pytest_django.fixtures import Settings

from bundles.models import Bundle
from tests.devices.actors import alice, device, make_signing, stranger, victor
from tests.factories import make_bundle

__all__ = ["alice", "device", "make_signing", "stranger", "victor"]


@pytest.fixture(autouse=True)
def storage(tmp_path: Path, settings: Settings) -> Path:
    directory = tmp_path / "storage"
    settings.STORAGES = settings.STORAGES | {
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": directory}}
    }
    return directory


@pytest.fixture
def bundle(db: None) -> Bundle:
    """vad@1.0.0, ready."""
    return make_bundle("vad@1.0.0")
