"""The errors that every app may raise and that the API returns: a status, a stable code and a sentence.

ApiError
├── BadRequest 400          the request itself is wrong
├── NotSigned 401           the request is not signed by a known device
├── Forbidden 403           the caller may not do this
├── NotFound 404
├── MethodNotAllowed 405
├── Conflict 409            the current state does not allow the request
│   └── IllegalTransition
├── LengthRequired 411      a body without a length, or a chunked one
├── TooLarge 413
├── UnsupportedMedia 415    neither JSON nor UTF-8
├── TooManyRequests 429     carries Retry-After
└── Unavailable 503         a backend is unavailable; carries Retry-After
"""

from collections.abc import Mapping


class ApiError(Exception):
    """An error that the API returns.

    Programs use the stable `code`; `message` is a sentence for people; `extra` holds further fields of the
    error object, such as `next_sequence`.
    """

    status = 400

    def __init__(self, code: str, message: str, **extra: object) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.extra: Mapping[str, object] = extra


class BadRequest(ApiError):
    status = 400


class NotSigned(ApiError):
    status = 401


class Forbidden(ApiError):
    status = 403


class NotFound(ApiError):
    status = 404


class MethodNotAllowed(ApiError):
    status = 405


class Conflict(ApiError):
    status = 409


class IllegalTransition(Conflict):
    """A change of state that the table of transitions does not allow."""


class LengthRequired(ApiError):
    status = 411


class TooLarge(ApiError):
    status = 413


class UnsupportedMedia(ApiError):
    status = 415


class TooManyRequests(ApiError):
    """A rate limit is used up; `retry_after_seconds` becomes the Retry-After header."""

    status = 429

    def __init__(self, code: str, message: str, retry_after_seconds: int, **extra: object) -> None:
        super().__init__(code, message, **extra)
        self.retry_after_seconds = retry_after_seconds


class Unavailable(ApiError):
    """A backend is unreachable; `retry_after_seconds` becomes the Retry-After header."""

    status = 503

    def __init__(self, code: str, message: str, retry_after_seconds: int = 5, **extra: object) -> None:
        super().__init__(code, message, **extra)
        self.retry_after_seconds = retry_after_seconds
