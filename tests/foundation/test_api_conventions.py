"""What is wrong with a request is told in one shape, with a stable code, by the server as it is deployed."""

import json
import socket

import pytest
import requests
from django.test import Client

from tests.foundation.raw_http import RawResponse, request, send
from tests.live import Live

GROUPS = "/api/v1/groups"
REGISTER = "/api/v1/devices/register"
LIMIT = 256 * 1024


def refusal(response: RawResponse) -> tuple[int, str]:
    """Return status and error code. Check that the response has a request id."""
    assert len(response.headers["x-request-id"]) >= 16
    return response.status, response.error["code"]


def post(live: Live, body: bytes, *, end: bool = False, **headers: str | None) -> RawResponse:
    """Send this body with an API token."""
    return send(live.port, request("POST", GROUPS, body, token=live.token, **headers), end=end)


def nested(depth: int) -> bytes:
    return b'{"name": ' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


BODIES = {
    "nothing": (b" ", 400, "not_json"),
    "no JSON": (b"{", 400, "not_json"),
    "two values": (b"{} {}", 400, "not_json"),
    "a list": (b"[]", 400, "invalid"),
    "a word": (b'"word"', 400, "invalid"),
    "null": (b"null", 400, "invalid"),
    "no UTF-8": (b'{"name": "\xff"}', 400, "not_utf8"),
    "UTF-16": ('{"name": "x"}'.encode("utf-16"), 400, "not_utf8"),
    "a byte order mark": (b'\xef\xbb\xbf{"name": "x"}', 400, "not_json"),
    "NUL": (rb'{"name": "a\u0000b"}', 400, "bad_text"),
    "NUL in a key": (rb'{"a\u0000b": 1}', 400, "bad_text"),
    "a lone surrogate": (rb'{"name": "\ud800"}', 400, "bad_text"),
    "a lone surrogate in a key": (rb'{"\udfff": 1}', 400, "bad_text"),
    "depth 33": (nested(33), 400, "too_deep"),
    "depth 100,000": (b"[" * 100_000, 400, "too_deep"),
    "not finite": (b'{"interval_seconds": NaN}', 400, "not_json"),
    "Infinity": (b'{"interval_seconds": -Infinity}', 400, "not_json"),
    "1e999": (b'{"interval_seconds": 1e999}', 400, "number_out_of_range"),
    "2^63": (b'{"interval_seconds": 9223372036854775808}', 400, "number_out_of_range"),
    "5,000 digits": (b'{"interval_seconds": ' + b"9" * 5000 + b"}", 400, "number_out_of_range"),
    "a member twice": (b'{"name": "a", "name": "b"}', 400, "not_json"),
    "more than 256 KiB": (b'{"name": "' + b"a" * LIMIT + b'"}', 413, "too_large"),
}


@pytest.mark.parametrize("why", BODIES)
def test_a_bad_body_is_refused(live: Live, why: str) -> None:
    body, status, code = BODIES[why]
    assert refusal(post(live, body)) == (status, code)


def test_depth_32_and_256_kib_are_accepted(live: Live) -> None:
    """The parser accepts the body; field validation refuses it."""
    assert refusal(post(live, nested(32))) == (400, "invalid")
    body = b'{"name": "' + b"a" * (LIMIT - 12) + b'"}'
    assert len(body) == LIMIT
    assert refusal(post(live, body)) == (400, "invalid")


TYPES = {
    "text": ("text/plain", "unsupported_media_type"),
    "a form": ("application/x-www-form-urlencoded", "unsupported_media_type"),
    "another JSON": ("application/problem+json", "unsupported_media_type"),
    "latin-1": ("application/json; charset=latin-1", "unsupported_media_type"),
    "utf-16": ('application/json; charset="utf-16"', "unsupported_media_type"),
    "no charset at all": ("application/json; charset=s3cret", "unsupported_media_type"),
    "rot13": ("application/json; charset=rot13", "unsupported_media_type"),
    "none": (None, "unsupported_media_type"),
}


@pytest.mark.parametrize("why", TYPES)
def test_another_content_type_is_refused(live: Live, why: str) -> None:
    content_type, code = TYPES[why]
    assert refusal(post(live, b'{"name": "x"}', content_type=content_type)) == (415, code)


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf-8"', "utf8"])
def test_an_explicit_utf8_charset_is_accepted(live: Live, charset: str) -> None:
    response = post(live, b'{"name": ""}', content_type=f"application/json; charset={charset}")
    assert refusal(response) == (400, "invalid")


def test_any_accept_header_gets_json(live: Live) -> None:
    """A device that sends a strange header does not lose its heartbeats."""
    for accept in ("text/html", "image/png", "application/json; q=0", "\xff"):
        response = send(live.port, request("GET", GROUPS, token=live.token, accept=accept), method="GET")
        assert (response.status, response.headers["content-type"]) == (200, "application/json")


def test_a_chunked_body_is_refused(live: Live) -> None:
    chunked = b"d\r\n" + b'{"name": "x"}' + b"\r\n0\r\n\r\n"
    for path in (GROUPS, REGISTER, "/api/v1/devices"):
        head = request(
            "POST", path, token=live.token, transfer_encoding="chunked", content_type="application/json"
        )  # fmt: skip
        assert refusal(send(live.port, head + chunked)) == (411, "length_required")


def test_a_truncated_body_is_refused(live: Live) -> None:
    response = post(live, b'{"name": "x"}', end=True, content_length="100")
    assert refusal(response) == (400, "body_cut")


@pytest.mark.parametrize("length", ["-1", "+5", "1e3", "0x10", "ten", "5, 5", "1_0", "9" * 30])
def test_an_invalid_content_length_is_refused(live: Live, length: str) -> None:
    """Gunicorn or Django refuses it, whichever reads it first, and closes the connection."""
    response = post(live, b'{"name": "x"}', content_length=length)
    assert response.status in {400, 413}
    assert response.headers["connection"] == "close"


def test_two_lengths_or_a_length_with_chunks_are_refused(live: Live) -> None:
    """Otherwise a proxy and this server could disagree about where a request ends."""
    head = request("POST", GROUPS, token=live.token, content_type="application/json").rstrip(b"\r\n")
    twice = b"\r\nContent-Length: 2\r\nContent-Length: 20\r\n\r\n{}"
    both = b"\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    for framing in (twice, both):
        response = send(live.port, head + framing)
        assert 400 <= response.status < 500


TARGETS = {
    "unknown": ("/api/v1/nothing", 404, "not_found"),
    "with a slash": (GROUPS + "/", 404, "not_found"),
    "no UUID": ("/api/v1/devices/x", 404, "not_found"),
    "NUL in the path": ("/api/v1/groups/a%00b", 404, "not_found"),
    "a control character": ("/api/v1/groups/a%0Ab", 404, "not_found"),
    "broken UTF-8": ("/api/v1/groups/%FF", 404, "not_found"),
    "dots": ("/api/v1/../../etc/passwd", 404, "not_found"),
    "NUL in the query": (GROUPS + "?cursor=%00", 400, "bad_query"),
    "a made-up cursor": (GROUPS + "?cursor=s3cret", 400, "bad_cursor"),
}


@pytest.mark.parametrize("why", TARGETS)
def test_a_bad_path_or_query_is_refused(live: Live, why: str) -> None:
    target, status, code = TARGETS[why]
    response = send(live.port, request("GET", target, token=live.token), method="GET")
    if not target.startswith("/api/v1/.."):
        assert refusal(response) == (status, code)
    assert response.status == status


def test_an_unsupported_method_is_refused(live: Live) -> None:
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "S3CRET"):
        response = send(live.port, request(method, GROUPS, token=live.token), method=method)
        assert refusal(response) == (405, "method_not_allowed")
        assert "POST" in response.headers["allow"]


def test_options_and_head_are_answered(live: Live) -> None:
    options = send(live.port, request("OPTIONS", GROUPS, token=live.token), method="OPTIONS")
    assert (options.status, options.headers["content-type"]) == (200, "application/json")
    head = send(live.port, request("HEAD", GROUPS, token=live.token), method="HEAD")
    assert (head.status, head.body) == (200, b"")
    head = send(live.port, request("HEAD", "/api/v1/nothing", token=live.token), method="HEAD")
    assert (head.status, head.body) == (404, b"")


@pytest.mark.parametrize("host", ["evil.example.com", "", "127.0.0.1:x", "a b", "127.0.0.1@evil", "evil/../"])
def test_a_bad_host_is_refused(live: Live, host: str) -> None:
    response = send(live.port, request("GET", GROUPS, token=live.token, host=host), method="GET")
    assert refusal(response) == (400, "bad_host")
    # Outside the API, the refusal is a page.
    page = send(live.port, request("GET", "/admin/login/", host=host), method="GET")
    assert page.status == 400
    assert "evil" not in page.body.decode()


def test_bytes_that_are_not_http_are_refused(live: Live) -> None:
    for sent in (
        b"\r\n\r\n\r\n",
        b"s3cret\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x00\xa5",
    ):
        with socket.create_connection(("127.0.0.1", live.port), timeout=30) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            received = b""
            while chunk := connection.recv(10_000):
                received += chunk
        assert not received or received.startswith((b"HTTP/1.1 4", b"HTTP/1.1 505")), received


def test_long_lines_and_many_headers_are_refused(live: Live) -> None:
    long_line = send(live.port, request("GET", f"{GROUPS}?q={'a' * 5000}", token=live.token), method="GET")
    assert 400 <= long_line.status < 500
    many = request("GET", GROUPS, token=live.token).replace(b"\r\n\r\n", b"\r\nx: a" * 200 + b"\r\n\r\n")
    assert 400 <= send(live.port, many, method="GET").status < 500


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer a b", "Bearer kxa_unknown", "Basic YTpi", "Bearer \xff\xfe"]
)
def test_a_missing_or_invalid_token_is_refused(live: Live, authorization: str) -> None:
    response = send(live.port, request("GET", GROUPS, authorization=authorization), method="GET")
    status, code = refusal(response)
    assert (status, code) in {(401, "not_authenticated"), (401, "bad_token")}
    assert response.headers["www-authenticate"] == 'Bearer realm="kernex"'


def test_an_unsigned_device_request_is_refused_before_its_body_is_read(live: Live) -> None:
    response = send(live.port, request("POST", REGISTER, b"{"))
    assert refusal(response) == (401, "not_signed")
    assert response.headers["www-authenticate"] == "Signature"


@pytest.mark.django_db
def test_pages_outside_the_api_are_html(client: Client) -> None:
    page = client.get("/nothing")
    assert (page.status_code, page["Content-Type"]) == (404, "text/html; charset=utf-8")
    assert "X-Request-Id" in page


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/nothing", "/api/v1/groups"])
def test_a_server_error_is_logged_with_its_request_id(
    path: str, client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The bug is also logged if rendering the error page fails, as it does without collectstatic."""
    client.raise_request_exception = False
    monkeypatch.setattr("foundation.accounts.authentication.BearerToken.authenticate", None)
    monkeypatch.setattr("django.views.defaults.loader.get_template", None)
    response = client.get(path)
    assert response.status_code == 500
    (line,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert line.exc_info is not None
    if path.startswith("/api/"):
        assert response.json()["error"]["request_id"] == response["X-Request-Id"]


def test_the_server_still_works_after_these_requests(live: Live) -> None:
    assert requests.get(f"{live.url}/health", timeout=30).status_code == 200
    assert "Traceback" not in (live.directory / "web.log").read_text()
    created = post(live, json.dumps({"name": "conventions"}).encode())
    assert created.status == 201
