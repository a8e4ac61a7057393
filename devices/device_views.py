"""The endpoints that devices call. Each request is signed; see docs/device-api.md."""

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from devices import heartbeat, heartbeat_message
from devices.authentication import DeviceSignature, KeyPossession, device_of, signature_of, verify_request
from devices.device_serializers import (
    AttributesRequest,
    AttributesResponse,
    HeartbeatRequest,
    HeartbeatResponse,
    LogBatchRequest,
    LogBatchResponse,
    RegisterRequest,
    RegisterResponse,
)
from devices.enrolment import register
from devices.models import LogBatchContent, LogRequest
from devices.slim_view import SlimView, json_response, require_json
from foundation.api.parsers import parse_json, read_body
from foundation.errors import BadRequest, NotFound
from foundation.rate_limits.throttles import ClientAddressThrottle, DeviceThrottle

SIGNED = OpenApiResponse(description="not_signed, bad_signature, bad_digest, clock_skew, unknown_device")
THROTTLED = OpenApiResponse(description="throttled, with Retry-After")
SEQUENCE = OpenApiParameter(
    "Kernex-Sequence",
    int,
    OpenApiParameter.HEADER,
    required=True,
    description="Higher than any used before.",
)


class Register(APIView):
    """Registration of a key as a device."""

    authentication_classes = [KeyPossession]
    permission_classes = []
    throttle_classes = [ClientAddressThrottle]

    @extend_schema(
        request=RegisterRequest,
        responses={
            201: RegisterResponse,
            200: RegisterResponse,
            401: SIGNED,
            403: OpenApiResponse(description="bad_token, decommissioned"),
            429: THROTTLED,
        },
    )
    def post(self, request: Request) -> Response:
        """Register the key that signs. If it is registered already, return 200 and spend no use of the token."""
        serializer = RegisterRequest(data=request.data)
        serializer.is_valid(raise_exception=True)
        if serializer.validated_data["public_key"] != signature_of(request).public_key:
            raise BadRequest("key_mismatch", "`public_key` is not the key that signed this request.")
        registration = register(**serializer.validated_data)
        return Response(RegisterResponse(registration.device).data, status=201 if registration.is_new else 200)


class DeviceView(APIView):
    """Base class for endpoints of accepted devices. It limits each device to `DEVICE_REQUESTS_PER_MINUTE`."""

    authentication_classes = [DeviceSignature]
    permission_classes = []
    throttle_classes = [DeviceThrottle]


class Attributes(DeviceView):
    """The attributes that a device reports, with a version number that the device increments."""

    @extend_schema(request=AttributesRequest, responses={200: AttributesResponse, 401: SIGNED, 429: THROTTLED})
    def put(self, request: Request, device_id: UUID) -> Response:
        """Replace the attributes if the version is newer than the stored one. Return the stored version."""
        serializer = AttributesRequest(data=request.data)
        serializer.is_valid(raise_exception=True)
        return Response({"version": device_of(request).store_attributes(**serializer.validated_data)})


class LogBatches(DeviceView):
    """The batches of logs that a device sends for one log request."""

    @extend_schema(
        request=LogBatchRequest,
        responses={
            200: LogBatchResponse,
            401: SIGNED,
            404: OpenApiResponse(description="not_found"),
            409: OpenApiResponse(description="log_request_ended; batch_gap, with next_batch"),
            413: OpenApiResponse(description="too_large"),
            429: THROTTLED,
        },
    )
    def post(self, request: Request, device_id: UUID, request_id: UUID) -> Response:
        """Store one batch. Idempotent: a repeated batch gets the same response and changes nothing."""
        serializer = LogBatchRequest(data=request.data)
        serializer.is_valid(raise_exception=True)
        values = serializer.validated_data
        log_request = LogRequest.objects.filter(pk=request_id, device=device_of(request)).first()
        if log_request is None:
            raise NotFound("not_found", "This device has no such log request.")
        batch = LogBatchContent(values["batch"], values["source"], values["text"], values["is_last"])
        return Response({"next_batch": log_request.add_batch(batch)})


class Heartbeat(SlimView):
    authentication_classes = [DeviceSignature]  # for the schema; `post` verifies the signature itself
    permission_classes = []

    @extend_schema(
        parameters=[SEQUENCE],
        request=HeartbeatRequest,
        responses={
            200: HeartbeatResponse,
            401: SIGNED,
            403: OpenApiResponse(description="decommissioned"),
            409: OpenApiResponse(description="sequence_used, with next_sequence"),
            429: THROTTLED,
        },
    )
    def post(self, request: HttpRequest, device_id: UUID) -> HttpResponse:
        """Store the device's report and return its open commands. An identical repeated request stores nothing."""
        signature = verify_request(request, sequenced=True)
        require_json(request)
        report = heartbeat_message.read(parse_json(read_body(request)))
        reply = heartbeat.record(device_id, signature, report)
        return json_response(
            {"state": reply.state, "interval_seconds": reply.interval_seconds, "commands": reply.commands}
        )
