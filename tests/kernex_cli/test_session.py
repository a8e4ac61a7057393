"""`kernex login` and `kernex logout`: where the token comes from, and how it is stored."""

import io
import ssl
import stat
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from kernex_cli import credentials
from kernex_cli.credentials import Credentials
from kernex_cli.errors import LocalProblem
from tests.kernex_cli.conftest import Kernex
from tests.kernex_cli.fake_server import TOKEN, FakeServer
from tests.live import Live

STATUS = {"devices": {}, "deployments": {}, "bundles": {}, "version": "0.1.0"}


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    return tmp_path / "config" / "kernex" / "credentials.toml"


@pytest.fixture(autouse=True)
def _status(fake: FakeServer) -> None:
    fake.responses["GET /status"] = STATUS


def test_the_token_is_read_from_standard_input(
    kernex: Kernex, fake: FakeServer, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{TOKEN}\n"))
    outcome = kernex("login", fake.url + "/", "--json")
    assert outcome.document == {"server": fake.url, "version": "0.1.0"}
    assert credentials.read(stored) == Credentials(fake.url, TOKEN)
    assert kernex("status").code == 0


def test_the_token_is_read_from_a_file(kernex: Kernex, fake: FakeServer, stored: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f" {TOKEN}\n")
    assert kernex("login", fake.url, "--token-file", tmp_path / "token").code == 0
    assert stat.S_IMODE(stored.stat().st_mode) == 0o600
    assert stat.S_IMODE(stored.parent.stat().st_mode) == 0o700
    assert list(stored.parent.iterdir()) == [stored]


def test_the_token_is_read_from_the_environment(
    kernex: Kernex, fake: FakeServer, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERNEX_TOKEN", TOKEN)
    assert kernex("login", fake.url).code == 0
    monkeypatch.delenv("KERNEX_TOKEN")
    assert kernex("status").code == 0


def test_the_token_is_prompted_for_on_a_terminal(
    kernex: Kernex, fake: FakeServer, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stdin", terminal)
    monkeypatch.setattr("getpass.getpass", lambda prompt: TOKEN)
    assert kernex("login", fake.url).code == 0
    assert stored.exists()


def test_a_refused_token_is_not_stored(
    kernex: Kernex, fake: FakeServer, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERNEX_TOKEN", "kxa_wrong")
    outcome = kernex("login", fake.url)
    assert outcome.code == 3
    assert not stored.exists()
    assert "kxa_wrong" not in outcome.err + outcome.out


@pytest.mark.parametrize("token", ["", "kxe_enrolment", "secret", "kxa_two words", "kxa_\u00e9"])
def test_other_texts_are_refused_as_a_token(
    kernex: Kernex, fake: FakeServer, stored: Path, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(token))
    outcome = kernex("login", fake.url)
    assert outcome.code == 2
    assert fake.requests == []
    assert not token or token not in outcome.err


@pytest.mark.parametrize("url", ["ftp://x", "https://", "https://user@host", "https://host/?q=1"])
def test_an_invalid_url_is_refused(kernex: Kernex, url: str) -> None:
    assert kernex("login", url).code == 2


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("fleet.example.com", "https://fleet.example.com"),
        ("https://fleet.example.com/", "https://fleet.example.com"),
        ("localhost:8000", "http://localhost:8000"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("http://10.0.0.1", "http://10.0.0.1"),
    ],
)
def test_the_scheme_is_added_to_a_url(text: str, url: str) -> None:
    assert credentials.server_url(text) == url


def test_a_stored_token_is_sent_only_to_its_own_server(kernex: Kernex, fake: FakeServer, stored: Path) -> None:
    credentials.write(stored, Credentials("https://fleet.example.com", TOKEN))
    outcome = kernex("status", "--server", fake.url)
    assert outcome.code == 3
    assert fake.requests == []


def test_a_command_without_a_login_fails_with_advice(kernex: Kernex) -> None:
    outcome = kernex("devices")
    assert outcome.code == 3
    assert "kernex login" in outcome.err


@pytest.mark.parametrize("text", ["server = 7\ntoken = 'x'\n", "not toml", "\x00", "server = 'http://x'\n"])
def test_a_damaged_file_is_reported(kernex: Kernex, stored: Path, text: str) -> None:
    stored.parent.mkdir(parents=True)
    stored.write_text(text)
    outcome = kernex("devices")
    assert outcome.code == 7
    assert "kernex login" in outcome.err


def test_the_old_file_stays_if_the_new_one_cannot_be_written(stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials.write(stored, Credentials("https://a.example", TOKEN))

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(LocalProblem, match="No space"):
        credentials.write(stored, Credentials("https://b.example", TOKEN))
    assert credentials.read(stored) == Credentials("https://a.example", TOKEN)
    assert list(stored.parent.iterdir()) == [stored]


def test_https_to_a_plain_http_server_suggests_http(
    kernex: Kernex, fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERNEX_TOKEN", TOKEN)
    outcome = kernex("login", fake.url.replace("http:", "https:"), "--retry-for", "0s")
    assert outcome.code == 5
    assert f"kernex login {fake.url}\n" in outcome.err
    assert [headers for headers in fake.headers if "Authorization" in headers] == []


@pytest.mark.parametrize("redirects", [False, True])
def test_http_to_a_tls_server_suggests_https(
    kernex: Kernex, fake: FakeServer, tls_port: int, monkeypatch: pytest.MonkeyPatch, redirects: bool
) -> None:
    monkeypatch.setenv("KERNEX_TOKEN", TOKEN)
    if redirects:
        # A port that responds to plain HTTP with a redirect, as most proxies do on port 80.
        fake.fail("GET /api/v1/status", (301, b"", {"Location": f"https://127.0.0.1:{tls_port}/api/v1/status"}))
        outcome = kernex("login", fake.url)
        assert (outcome.code, f"https://127.0.0.1:{tls_port}" in outcome.err) == (5, True)
        return
    outcome = kernex("login", f"http://127.0.0.1:{tls_port}", "--retry-for", "0s")
    assert outcome.code == 5
    assert f"kernex login https://127.0.0.1:{tls_port}\n" in outcome.err


@pytest.fixture
def tls_port(tmp_path: Path) -> Iterator[int]:
    """Yield the port of an HTTPS server whose certificate is not trusted."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", "/CN=127.0.0.1", "-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "certificate")]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate", tmp_path / "key")

    class QuietServer(ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            pass

    with QuietServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_logout_removes_the_token(kernex: Kernex, stored: Path) -> None:
    credentials.write(stored, Credentials("https://a.example", TOKEN))
    assert kernex("logout", "--json").document == {"logged_out": True}
    assert not stored.exists()
    assert kernex("logout", "--json").document == {"logged_out": False}


def test_login_to_a_real_server(kernex: Kernex, live: Live, stored: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for role in ("viewer", "publisher", "admin"):
        monkeypatch.setattr("sys.stdin", io.StringIO(live.tokens[role]))
        assert kernex("login", live.url).code == 0
    monkeypatch.setattr("sys.stdin", io.StringIO("kxa_wrong"))
    assert kernex("login", live.url).code == 3
