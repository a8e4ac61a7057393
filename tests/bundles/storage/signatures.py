"""The checks of a real S3 server that moto lacks: AWS signature version 4, in headers and in presigned URLs.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html
"""

import base64
import hashlib
import hmac
import io
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

SKEW = timedelta(minutes=15)
UNSIGNED = "UNSIGNED-PAYLOAD"


class Refused(Exception):
    """A refused request; the message is S3's error code."""


def check(environ: dict[str, Any], keys: dict[str, str]) -> None:
    """Raise `Refused` unless one of `keys` (secrets by name) signed exactly this request recently."""
    path, _, query = (environ.get("RAW_URI") or environ["REQUEST_URI"]).partition("?")
    parameters = parse_qsl(query, keep_blank_values=True)
    query_parameters, authorization = dict(parameters), environ.get("HTTP_AUTHORIZATION", "")
    now = datetime.now(UTC)
    if authorization.startswith("AWS4-HMAC-SHA256 "):
        authorization_members = dict(word.strip().split("=", 1) for word in authorization[17:].split(","))
        scope, signed, signature = (
            authorization_members["Credential"],
            authorization_members["SignedHeaders"],
            authorization_members["Signature"],
        )
        when, payload = header(environ, "x-amz-date"), header(environ, "x-amz-content-sha256") or UNSIGNED
        if abs(now - _time(when)) > SKEW:
            raise Refused("RequestTimeTooSkewed")
    elif "X-Amz-Signature" in query_parameters:
        scope, signed, signature = (
            query_parameters[f"X-Amz-{word}"] for word in ("Credential", "SignedHeaders", "Signature")
        )
        when, payload = query_parameters["X-Amz-Date"], UNSIGNED
        if now > _time(when) + timedelta(seconds=int(query_parameters["X-Amz-Expires"])):
            raise Refused("AccessDenied")
        parameters = [(name, value) for name, value in parameters if name != "X-Amz-Signature"]
    else:
        raise Refused("AccessDenied")
    name, date, region, *_ = scope.split("/")
    if name not in keys:
        raise Refused("InvalidAccessKeyId")
    canonical = "\n".join(
        [
            environ["REQUEST_METHOD"],
            quote(unquote(path), safe="/-_.~"),
            "&".join(sorted(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in parameters)),
            "".join(f"{name}:{' '.join(header(environ, name).split())}\n" for name in signed.split(";")),
            signed,
            payload,
        ]
    )
    if not hmac.compare_digest(_signature(keys[name], date, region, when, canonical), signature):
        raise Refused("SignatureDoesNotMatch")
    _check_body(environ, payload)


def header(environ: dict[str, Any], name: str) -> str:
    name = name.upper().replace("-", "_")
    return str(environ.get(f"HTTP_{name}") or environ.get(name, ""))


def _time(text: str) -> datetime:
    return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def _signature(secret: str, date: str, region: str, when: str, canonical: str) -> str:
    key = f"AWS4{secret}".encode()
    for word in (date, region, "s3", "aws4_request"):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{when}\n{date}/{region}/s3/aws4_request\n{digest}"
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _check_body(environ: dict[str, Any], payload: str) -> None:
    md5, length = header(environ, "content-md5"), int(environ.get("CONTENT_LENGTH") or 0)
    if environ["REQUEST_METHOD"] != "PUT" or not (md5 or len(payload) == 64):
        return
    body = environ["wsgi.input"].read(length)
    environ["wsgi.input"] = io.BytesIO(body)
    if len(body) < length:
        raise Refused("IncompleteBody")
    if md5 and base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode() != md5:
        raise Refused("BadDigest")
    if len(payload) == 64 and hashlib.sha256(body).hexdigest() != payload:
        raise Refused("XAmzContentSHA256Mismatch")
