"""HTTP with the control plane: one session, explicit timeouts, retries with jittered backoff.

What is tried again: connections that fail, and the answers 429, 502, 503 and 504, which say "later"; a Retry-After is
obeyed. A call marked `once` is only repeated when it surely did nothing: it never reached the server, or was answered
429 or 503. The token never leaves for another host: redirects are not followed, and of a page's `next` link only the
query is used.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.exceptions import NewConnectionError

from kernex_cli import __version__
from kernex_cli.credentials import LOOPBACK, Credentials
from kernex_cli.errors import CommandFailed, NotAllowed, Refused, Unreachable
from kernex_cli.patience import Patience

CONNECT_SECONDS, ANSWER_SECONDS = 10, 120
LATER = {429, 502, 503, 504}
NOTHING_DONE = {429, 503}
LONGEST_RETRY_AFTER_SECONDS = 120.0
PAGE_SIZE = 500
CONNECTIONS = 8


class Bearer(AuthBase):
    """The token of every request. Given as `auth`, so that a ~/.netrc cannot take its place."""

    def __init__(self, token: str) -> None:
        self.token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self.token}"
        return request


class Client:
    """`patience_seconds` is how long one call goes on trying; `note` is told why it waits."""

    def __init__(self, credentials: Credentials, patience_seconds: float, note: Callable[[str], None]) -> None:
        self.server = credentials.server
        self.patience_seconds = patience_seconds
        self.note = note
        self.session = requests.Session()
        self.session.auth = Bearer(credentials.token)
        self.session.headers["User-Agent"] = f"kernex/{__version__}"
        self.session.headers["Accept"] = "application/json"
        self.session.trust_env = urlsplit(credentials.server).hostname not in LOOPBACK  # proxies, CA bundles
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, HTTPAdapter(pool_maxsize=CONNECTIONS))

    def get(self, path: str, params: Mapping[str, str] | None = None) -> Any:
        return self.call("GET", path, params=params)

    def post(self, path: str, body: object = None, *, once: bool = False) -> Any:
        return self.call("POST", path, json=body if body is not None else {}, once=once)

    def delete(self, path: str) -> None:
        """Deleted once: told again, it would be unknown."""
        self.call("DELETE", path, once=True)

    def pages(self, path: str, params: Mapping[str, str], limit: int = 0) -> list[Any]:
        """Every row of a list, or the first `limit` of them."""
        rows: list[Any] = []
        query = {**params, "page_size": str(min(limit or PAGE_SIZE, PAGE_SIZE))}
        while True:
            page = self.get(path, query)
            rows += page["results"]
            if not page["next"] or (limit and len(rows) >= limit):
                return rows[:limit] if limit else rows
            query = dict(parse_qsl(urlsplit(page["next"]).query))

    def call(self, method: str, path: str, *, once: bool = False, **request: Any) -> Any:
        """The answer's JSON; `path` begins after `/api/v1`. Raises `NotAllowed`, `Refused` or `Unreachable`."""
        patience = Patience(self.patience_seconds, self.note)
        while True:
            answer = self._try(method, path, once, request)
            if not isinstance(answer, Later):
                return answer
            if not answer.may_repeat or not patience.wait(answer.reason, answer.retry_after_seconds):
                raise answer.final

    def _try(self, method: str, path: str, once: bool, request: Mapping[str, Any]) -> Any:
        try:
            response = self.session.request(
                method, f"{self.server}/api/v1{path}", timeout=(CONNECT_SECONDS, ANSWER_SECONDS),
                allow_redirects=False, **request,
            )  # fmt: skip
        except requests.exceptions.SSLError as error:
            raise Unreachable(
                f"{self.server} cannot prove who it is ({error}): check the address; for a certificate authority of "
                "your own set REQUESTS_CA_BUNDLE."
            ) from None
        except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
            return Later(
                f"{self.server} does not answer",
                Unreachable(
                    f"{self.server} cannot be reached: {reason_of(error)}. {_advice(once and not _unsent(error))}"
                ),
                may_repeat=not once or _unsent(error),
            )
        except (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
            raise Unreachable(f"{self.server} is no address that can be called: {error}.") from None
        if response.status_code in LATER:
            return Later(
                f"{self.server} answers {response.status_code}",
                Unreachable(f"{_message(response)}. {_advice(once and response.status_code not in NOTHING_DONE)}"),
                may_repeat=not once or response.status_code in NOTHING_DONE,
                retry_after_seconds=retry_after(response),
            )
        return _read(response, self.server)


class Later:
    """A failure that may pass."""

    def __init__(
        self, reason: str, final: CommandFailed, *, may_repeat: bool, retry_after_seconds: float = 0.0
    ) -> None:
        self.reason = reason
        self.final = final
        self.may_repeat = may_repeat
        self.retry_after_seconds = retry_after_seconds


def _read(response: requests.Response, server: str) -> Any:
    if response.status_code == requests.codes.no_content:
        return None
    if 200 <= response.status_code < 300:
        try:
            return response.json()
        except ValueError:
            raise Unreachable(f"{server} answers, but not as Kernex does: check the address.") from None
    if 300 <= response.status_code < 400:
        target = response.headers.get("Location", "elsewhere")
        raise Unreachable(f"{server} sends its callers to {target}: log in there (`kernex login SERVER`).")
    if response.status_code >= 500:
        raise Unreachable(f"{_message(response)}. Look into the server's log, then try again.")
    error = _error(response)
    if response.status_code == 401:
        raise NotAllowed(f"{_message(response)}. Run `kernex login {server}` with a valid API token.")
    if response.status_code == 403:
        raise NotAllowed(f"{_message(response)}. Log in with a token whose role allows it, or ask an administrator.")
    fields = error.get("fields")
    raise Refused(
        response.status_code,
        str(error.get("code", "")),
        _sentence(error, response) + (f" {_fields(fields)}" if fields else ""),
        error,
    )


def _error(response: requests.Response) -> dict[str, Any]:
    try:
        error = response.json()["error"]
    except (ValueError, KeyError, TypeError):
        return {}
    return error if isinstance(error, dict) else {}


def _sentence(error: Mapping[str, Any], response: requests.Response) -> str:
    return str(error.get("message") or f"The server answered {response.status_code} {response.reason}.")


def _message(response: requests.Response) -> str:
    error = _error(response)
    sentence = _sentence(error, response).rstrip(".")
    return f"{sentence} ({error['code']})" if error.get("code") else sentence


def _fields(fields: object) -> str:
    """DRF's `{"field": ["sentence", …]}` in one line."""
    if not isinstance(fields, dict):
        return str(fields)
    return " ".join(f"`{name}`: {' '.join(_words(value))}" for name, value in fields.items())


def _words(value: object) -> Iterable[str]:
    return [str(item) for item in value] if isinstance(value, list) else [str(value)]


def retry_after(response: requests.Response) -> float:
    """How many seconds the server asks for, within reason; 0 if it does not say."""
    text = response.headers.get("Retry-After", "")
    return min(float(text), LONGEST_RETRY_AFTER_SECONDS) if text.isascii() and text.isdigit() else 0.0


def _unsent(error: requests.RequestException) -> bool:
    """Whether no byte of the request can have arrived."""
    inner = error.args[0] if error.args else None
    return isinstance(error, requests.ConnectTimeout) or isinstance(getattr(inner, "reason", None), NewConnectionError)


def reason_of(error: requests.RequestException) -> str:
    """The innermost words of what requests and urllib3 wrapped into each other."""
    if isinstance(error, requests.Timeout):
        return "it took too long"
    inner: object = error
    while isinstance(inner, BaseException):
        inner = getattr(inner, "reason", None) or (inner.args[-1] if inner.args else type(inner).__name__)
    return str(inner).rpartition(": ")[2].rpartition("] ")[2].rstrip(".") or "the connection was cut"


def _advice(unknown: bool) -> str:
    if unknown:
        return "Whether the request was carried out is not known: look before you repeat it."
    return "Check the address and the server, then run the same command again."
