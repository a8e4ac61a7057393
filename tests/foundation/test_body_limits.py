"""Size limits of forms apply before parsing: an anonymous client cannot make the server store a large body."""

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from pytest_django.fixtures import Settings

from tests.foundation.raw_http import request, send
from tests.live import Live

MIB = 1024**2
PATHS = ["/admin/login/", "/admin/", "/admin/devices/device/", "/api/v1/schema", "/health", "/"]


def upload(size: int) -> dict[str, object]:
    return {"username": "alice", "file": SimpleUploadedFile("archive.zip", b"x" * size)}


@pytest.mark.django_db
@pytest.mark.parametrize("path", PATHS)
def test_a_large_anonymous_form_is_refused(client: Client, path: str) -> None:
    response = client.post(path, upload(MIB))
    assert response.status_code == 413
    assert "262144 bytes" in response.content.decode()


@pytest.mark.django_db
def test_a_user_without_admin_access_has_the_same_limit(client: Client) -> None:
    client.force_login(User.objects.create_user("bob"))
    assert client.post("/admin/", upload(MIB)).status_code == 413


@pytest.mark.django_db
def test_signed_in_staff_may_send_larger_forms_up_to_a_limit(client: Client, settings: Settings) -> None:
    settings.FORM_UPLOAD_MAX_SIZE = 2 * MIB
    client.force_login(User.objects.create_user("bob", is_staff=True))
    # Parsed, then refused for lack of permission.
    assert client.post("/admin/devices/device/", upload(MIB)).status_code == 403
    assert client.post("/admin/devices/device/", upload(3 * MIB)).status_code == 413


def test_a_large_form_is_refused_before_its_body_arrives(live: Live) -> None:
    """The headers announce 1,400 MiB and no body follows: the response does not wait for it."""
    form: dict[str, str | None] = {"content_type": "multipart/form-data; boundary=x", "content_length": str(1400 * MIB)}
    assert send(live.port, request("POST", "/admin/login/", b"", **form)).status == 413


@pytest.mark.parametrize("path", ["/admin/login/", "/api/v1/groups", "/"])
def test_a_chunked_body_is_refused_everywhere(live: Live, path: str) -> None:
    chunked: dict[str, str | None] = {"transfer_encoding": "chunked", "content_type": "multipart/form-data; boundary=x"}
    response = send(live.port, request("POST", path, b"", **chunked) + b"5\r\nhello\r\n0\r\n\r\n")
    assert response.status == 411


@pytest.mark.parametrize("length", ["-1", "1e9", "99999999999999999999"])
def test_an_invalid_content_length_is_refused(live: Live, length: str) -> None:
    response = send(live.port, request("POST", "/admin/login/", content_length=length), end=True)
    assert response.status in {400, 413}
