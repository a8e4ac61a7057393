"""An S3 server in a separate process: moto, behind the signature checks that moto lacks.

python -m tests.bundles.storage.s3_server PORT ACCESS_KEY SECRET_KEY
"""

import logging
import sys
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.models import s3_backends
from werkzeug.serving import run_simple

from tests.bundles.storage.signatures import Refused, check

StartResponse = Callable[[str, list[tuple[str, str]]], Any]
STATUS = {"BadDigest": "400 Bad Request", "XAmzContentSHA256Mismatch": "400 Bad Request", "IncompleteBody": "400 Cut"}


class Signed:
    """Forwards signed requests, and responds to CORS preflight requests by the bucket's rules."""

    def __init__(self, application: Any, keys: dict[str, str]) -> None:
        self.application = application
        self.keys = keys

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "OPTIONS":
            return preflight(environ, start_response)
        try:
            check(environ, self.keys)
        except Refused as refusal:
            return refuse(str(refusal), start_response)
        response: Iterable[bytes] = self.application(environ, start_response)
        return response


def refuse(code: str, start_response: StartResponse) -> list[bytes]:
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{code}</Message></Error>'.encode()
    length = ("Content-Length", str(len(body)))
    start_response(STATUS.get(code, "403 Forbidden"), [("Content-Type", "application/xml"), length])
    return [body]


def preflight(environ: dict[str, Any], start_response: StartResponse) -> list[bytes]:
    origin, method = environ.get("HTTP_ORIGIN", ""), environ.get("HTTP_ACCESS_CONTROL_REQUEST_METHOD", "")
    name = environ["PATH_INFO"].split("/")[1]
    for account in s3_backends.values():
        bucket = account["aws"].buckets.get(name)
        for rule in bucket.cors if bucket else []:
            if origin in as_list(rule.allowed_origins) and method in as_list(rule.allowed_methods):
                headers = [("Access-Control-Allow-Origin", origin), ("Access-Control-Allow-Methods", method)]
                requested_headers = environ.get("HTTP_ACCESS_CONTROL_REQUEST_HEADERS", "")
                if requested_headers and "*" in as_list(rule.allowed_headers):
                    headers.append(("Access-Control-Allow-Headers", requested_headers))
                start_response("200 OK", [*headers, ("Content-Length", "0")])
                return [b""]
    return refuse("AccessForbidden", start_response)


def as_list(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def main(port: str, access_key: str, secret_key: str) -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = Signed(DomainDispatcherApplication(create_backend_app), {access_key: secret_key})
    run_simple("127.0.0.1", int(port), application, threaded=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
