"""Server errors are reported to Sentry if SENTRY_DSN is set, without secrets."""

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import sentry_sdk
from django.test import Client
from pytest_django import Settings

from operations.monitoring.error_reports import report_defects
from tests.factories import make_token, make_user

# Written in reverse, because a report quotes the lines of code around the error.
PASSWORD, COOKIE, OTHER = "esroh-tcerroc"[::-1], "dinoisses"[::-1], "terc3s"[::-1]
SECRETS = ("kxa_", PASSWORD, COOKIE, OTHER)


@pytest.fixture
def sentry_bodies(settings: Settings) -> Iterator[list[str]]:
    """A fake Sentry server, configured as the destination of reports. Yields the bodies that it received."""
    received: list[str] = []

    class Sentry(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body).decode())
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Sentry) as server:
        threading.Thread(target=server.serve_forever).start()
        settings.SENTRY_DSN = f"http://key@127.0.0.1:{server.server_port}/1"
        try:
            report_defects()
            yield received
            sentry_sdk.get_client().close(timeout=5)
            sentry_sdk.init()
        finally:
            server.shutdown()


@pytest.mark.django_db
def test_a_server_error_is_reported_without_secrets(
    sentry_bodies: list[str], client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ValueError(f"password={PASSWORD} at postgresql://app:{OTHER}@db/x")

    monkeypatch.setattr("kernex.pages.FleetStatus.now", broken)
    token = make_token(make_user(), "viewer")
    client.raise_request_exception = False
    client.cookies["session"] = COOKIE
    response = client.get("/api/v1/status", headers={"Authorization": f"Bearer {token}"})
    assert response.status_code == 500
    sentry_sdk.flush(5)
    reports = [text for text in sentry_bodies if '"exception"' in text]
    assert len(reports) == 1
    assert "ValueError" in reports[0]
    assert "/api/v1/status" in reports[0]
    assert [secret for secret in SECRETS if secret in reports[0]] == []


@pytest.mark.django_db
def test_a_refusal_is_not_reported(sentry_bodies: list[str], client: Client) -> None:
    assert client.get("/api/v1/status").status_code == 401
    assert client.get("/nothing").status_code == 404
    sentry_sdk.flush(5)
    assert [text for text in sentry_bodies if '"exception"' in text] == []
