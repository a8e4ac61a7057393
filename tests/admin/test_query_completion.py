"""The JSON endpoint that completes queries in the search field of the list of devices."""

from collections.abc import Callable

import pytest
from django.test import Client

from tests.factories import make_group

pytestmark = pytest.mark.django_db
PATH = "/admin/devices/device/complete"


def test_it_responds_with_suggestions(staff: Callable[..., Client]) -> None:
    make_group("lab")
    response = staff("devices.view_device").get(PATH, {"text": "group = l"})
    assert response.json() == {"start": 8, "is_value": True, "suggestions": [{"text": "lab", "hint": ""}]}


def test_it_needs_the_permission_to_view_devices(staff: Callable[..., Client]) -> None:
    assert staff("bundles.view_bundle").get(PATH, {"text": "x"}).status_code == 403
    assert Client().get(PATH, {"text": "x"}).status_code == 302


def test_a_malformed_request_is_refused(boss: Client) -> None:
    assert boss.get(PATH, {"text": "x" * 4097}).status_code == 400
    assert boss.get(PATH, {"text": "group = \0"}).status_code == 400
    assert boss.get(PATH).json()["start"] == 0
    assert boss.get(PATH, {"text": 'type = "\ud7ff\uffff'}).json()["suggestions"] == []
