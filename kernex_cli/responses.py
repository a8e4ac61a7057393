"""Turn the server's HTTP responses into JSON documents or errors."""

from collections.abc import Mapping
from typing import Any

import requests

from kernex_cli.errors import CommandFailed, NotAllowed, Refused, Unreachable

LONGEST_RETRY_AFTER_SECONDS = 120.0
REQUEST_NOT_REPEATABLE = "It is not known whether the request was carried out: check before you repeat it."
RUN_AGAIN = "Check the URL and the server, then run the same command again."


def document_of(response: requests.Response, server: str) -> Any:
    """Return the JSON of a successful response, or None if it has no body. Raises `Unreachable`."""
    if response.status_code == requests.codes.no_content:
        return None
    try:
        return response.json()
    except ValueError:
        raise not_like_kernex(server) from None


def not_like_kernex(server: str) -> Unreachable:
    """Return the error for a response that no Kernex server sends."""
    return Unreachable(f"{server} responded, but not like Kernex: check the URL.")


def raise_for_status(response: requests.Response, server: str) -> None:
    """Raise `NotAllowed`, `Refused` or `Unreachable` unless the response is a success."""
    status = response.status_code
    if status < 300:
        return
    if status < 400:
        target = response.headers.get("Location", "another URL")
        raise Unreachable(f"{server} redirects to {target}: run `kernex login` with that server.")
    if status >= 500:
        raise Unreachable(f"{error_summary(response)}. Read the server's log, then try again.")
    if status == 401:
        raise NotAllowed(f"{error_summary(response)}. Run `kernex login {server}` with a valid API token.")
    if status == 403:
        raise NotAllowed(
            f"{error_summary(response)}. Log in with a token whose role allows it, or ask an administrator."
        )
    raise _refusal(response)


def error_summary(response: requests.Response) -> str:
    """Return the server's sentence and error code, without a full stop."""
    error = _error_object(response)
    sentence = _sentence(error, response).rstrip(".")
    return f"{sentence} ({error['code']})" if error.get("code") else sentence


def retry_after(response: requests.Response) -> float:
    """Return the seconds that `Retry-After` asks for, at most 120; 0 if the header is missing."""
    text = response.headers.get("Retry-After", "")
    return min(float(text), LONGEST_RETRY_AFTER_SECONDS) if text.isascii() and text.isdigit() else 0.0


def connection_problem(error: requests.RequestException) -> str:
    """Return the innermost message of the exceptions that requests and urllib3 wrapped into each other."""
    if isinstance(error, requests.Timeout):
        return "it took too long"
    inner: object = error
    while isinstance(inner, BaseException):
        inner = getattr(inner, "reason", None) or (inner.args[-1] if inner.args else type(inner).__name__)
    return str(inner).rpartition(": ")[2].rpartition("] ")[2].rstrip(".") or "the connection was cut"


def _refusal(response: requests.Response) -> CommandFailed:
    error = _error_object(response)
    fields = error.get("fields")
    message = _sentence(error, response) + (f" {_field_errors(fields)}" if fields else "")
    return Refused(response.status_code, str(error.get("code", "")), message, error)


def _error_object(response: requests.Response) -> dict[str, Any]:
    try:
        error = response.json()["error"]
    except (ValueError, KeyError, TypeError):
        return {}
    return error if isinstance(error, dict) else {}


def _sentence(error: Mapping[str, Any], response: requests.Response) -> str:
    return str(error.get("message") or f"The server returned {response.status_code} {response.reason}.")


def _field_errors(fields: object) -> str:
    """Format `{"field": ["sentence", …]}` as one line."""
    if not isinstance(fields, dict):
        return str(fields)
    return " ".join(f"`{name}`: {_joined(sentences)}" for name, sentences in fields.items())


def _joined(sentences: object) -> str:
    return " ".join(map(str, sentences)) if isinstance(sentences, list) else str(sentences)
