"""The endpoints of previews."""

from uuid import UUID

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from deployments.models import Preview
from deployments.previews.counting import start_preview
from deployments.previews.outlook import outlook
from deployments.previews.serializers import PreviewResponse, preview_body
from deployments.request_serializers import DEFINITION_ERRORS, DeploymentRequest


class Previews(APIView):
    @extend_schema(request=DeploymentRequest, responses={201: PreviewResponse, **DEFINITION_ERRORS})
    def post(self, request: Request) -> Response:
        """Preview a deployment. Nothing is deployed.

        The body is that of `POST /deployments`. The preview of a small fleet is `ready` at once. That of a large one is
        `computing`: request it again until it is `ready`. Previews are kept for a day.
        """
        body = DeploymentRequest(data=request.data)
        body.is_valid(raise_exception=True)
        preview = start_preview(body.definition())
        return Response(preview_body(preview, outlook(preview)), status=201)


class OnePreview(APIView):
    @extend_schema(responses=PreviewResponse)
    def get(self, request: Request, preview_id: UUID) -> Response:
        """One preview, with the numbers that are known so far."""
        preview = get_object_or_404(Preview.objects.select_related("bundle").defer("bundle__manifest"), pk=preview_id)
        return Response(preview_body(preview, outlook(preview)))
