"""What devices call. Each request is signed; see docs/device-api.md."""

import json
from typing import Any, NoReturn
from uuid import UUID

from django.http import HttpRequest, HttpResponse, HttpResponseBase
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.exceptions import UnsupportedMediaType
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from devices import heartbeat, heartbeat_message
from devices.authentication import DeviceSignature, KeyPossession, device_of, proof_of, signed
from devices.device_serializers import (
    AttributesAnswer,
    AttributesRequest,
    HeartbeatAnswer,
    HeartbeatRequest,
    RegisterAnswer,
    RegisterRequest,
)
from devices.enrolment import register
from foundation.api.parsers import parse_json, read_body
from foundation.errors import BadRequest

SIGNED = OpenApiResponse(description="not_signed, bad_signature, bad_digest, clock_skew, unknown_device")
SEQUENCE = OpenApiParameter(
    "Kernex-Sequence", int, OpenApiParameter.HEADER, required=True, description="Higher than ever before."
)


class Register(APIView):
    """A key becomes a device."""

    authentication_classes = [KeyPossession]
    permission_classes = []

    @extend_schema(
        request=RegisterRequest,
        responses={
            201: RegisterAnswer,
            200: RegisterAnswer,
            401: SIGNED,
            403: OpenApiResponse(description="bad_token, decommissioned"),
        },
    )
    def post(self, request: Request) -> Response:
        """Register the key that signs. The same key again answers 200 and uses nothing up."""
        message = RegisterRequest(data=request.data)
        message.is_valid(raise_exception=True)
        if message.validated_data["public_key"] != proof_of(request).public_key:
            raise BadRequest("key_mismatch", "`public_key` is not the key that signed this request.")
        registration = register(**message.validated_data)
        return Response(RegisterAnswer(registration.device).data, status=201 if registration.is_new else 200)


class Attributes(APIView):
    """What a device says about itself, numbered by itself."""

    authentication_classes = [DeviceSignature]
    permission_classes = []

    @extend_schema(request=AttributesRequest, responses={200: AttributesAnswer, 401: SIGNED})
    def put(self, request: Request, device_id: UUID) -> Response:
        """Replace the attributes. An older or equal version changes nothing; the answer is the version kept."""
        message = AttributesRequest(data=request.data)
        message.is_valid(raise_exception=True)
        return Response({"version": device_of(request).take_attributes(**message.validated_data)})


class SlimView(APIView):
    """An APIView that does per request only what its one method asks for.

    DRF's own hooks are left empty: no wrapped request, no negotiation, no policies, no rendering. The method gets
    Django's request, proves by itself who is asking, and returns Django's response.
    """

    metadata_class = None

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        return request

    def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
        pass

    @property
    def default_response_headers(self) -> dict[str, str]:
        return {}

    def finalize_response(self, request: Any, response: HttpResponseBase, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(response, Response):
            return response
        plain = json_response(response.data, response.status_code)
        for name in ("Retry-After", "WWW-Authenticate"):
            if response.has_header(name):
                plain[name] = response[name]
        if response.status_code == 405:
            plain["Allow"] = ", ".join(self.allowed_methods)
        return plain

    def raise_uncaught_exception(self, exc: Exception) -> NoReturn:
        raise exc


def json_response(value: Any, status: int = 200) -> HttpResponse:
    return HttpResponse(json.dumps(value), content_type="application/json", status=status)


def require_json(request: HttpRequest) -> None:
    """Refuse a body that does not call itself JSON in UTF-8."""
    if request.META.get("CONTENT_TYPE") == "application/json":
        return
    charset = (request.content_params or {}).get("charset", "utf-8")
    if request.content_type != "application/json" or charset.lower() != "utf-8":
        raise UnsupportedMediaType(request.META.get("CONTENT_TYPE", ""))


class Heartbeat(SlimView):
    authentication_classes = [DeviceSignature]  # for the schema; `post` proves it itself
    permission_classes = []

    @extend_schema(
        parameters=[SEQUENCE],
        request=HeartbeatRequest,
        responses={
            200: HeartbeatAnswer,
            401: SIGNED,
            403: OpenApiResponse(description="decommissioned"),
            409: OpenApiResponse(description="sequence_used, with next_sequence"),
        },
    )
    def post(self, request: HttpRequest, device_id: UUID) -> HttpResponse:
        """Report and ask for commands. The identical request again is answered as the first time."""
        proof = signed(request, sequenced=True)
        require_json(request)
        message = heartbeat_message.read(parse_json(read_body(request)))
        answer = heartbeat.take(device_id, proof, message)
        return json_response(
            {"state": answer.state, "interval_seconds": answer.interval_seconds, "commands": answer.commands}
        )
