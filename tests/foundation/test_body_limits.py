"""Before sign-in nobody makes the server write a large body to disk: forms are limited before they are parsed."""

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from pytest_django.fixtures import Settings

from tests.foundation.wire import request, send
from tests.live import Live

MIB = 1024**2
PATHS = ["/admin/login/", "/admin/", "/admin/devices/device/", "/api/v1/schema", "/health", "/"]


def upload(size: int) -> dict[str, object]:
    return {"username": "alice", "file": SimpleUploadedFile("archive.zip", b"x" * size)}


@pytest.mark.django_db
@pytest.mark.parametrize("path", PATHS)
def test_a_stranger_sends_no_large_form(client: Client, path: str) -> None:
    answer = client.post(path, upload(MIB))
    assert answer.status_code == 413
    assert "262144 bytes" in answer.content.decode()


@pytest.mark.django_db
def test_a_person_without_access_to_the_admin_is_a_stranger(client: Client) -> None:
    client.force_login(User.objects.create_user("bob"))
    assert client.post("/admin/", upload(MIB)).status_code == 413


@pytest.mark.django_db
def test_somebody_who_is_signed_in_may_send_more_within_a_limit(client: Client, settings: Settings) -> None:
    settings.FORM_UPLOAD_MAX_SIZE = 2 * MIB
    client.force_login(User.objects.create_user("bob", is_staff=True))
    assert client.post("/admin/devices/device/", upload(MIB)).status_code == 403  # parsed, and refused by permission
    assert client.post("/admin/devices/device/", upload(3 * MIB)).status_code == 413


def test_it_is_refused_before_it_has_arrived(live: Live) -> None:
    """The head promises 1,400 MiB, of which nothing ever comes: the answer does not wait for them."""
    form: dict[str, str | None] = {"content_type": "multipart/form-data; boundary=x", "content_length": str(1400 * MIB)}
    assert send(live.port, request("POST", "/admin/login/", b"", **form)).status == 413


@pytest.mark.parametrize("path", ["/admin/login/", "/api/v1/groups", "/"])
def test_a_chunked_body_is_refused_everywhere(live: Live, path: str) -> None:
    chunked: dict[str, str | None] = {"transfer_encoding": "chunked", "content_type": "multipart/form-data; boundary=x"}
    answer = send(live.port, request("POST", path, b"", **chunked) + b"5\r\nhello\r\n0\r\n\r\n")
    assert answer.status == 411


@pytest.mark.parametrize("length", ["-1", "1e9", "99999999999999999999"])
def test_a_made_up_length_is_refused(live: Live, length: str) -> None:
    answer = send(live.port, request("POST", "/admin/login/", content_length=length), end=True)
    assert answer.status in {400, 413}
