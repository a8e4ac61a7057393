"""The publishers' endpoints for bundles."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from bundles import manifest, publishing
from bundles.models import Bundle, BundleState
from bundles.serializers import BundleDetail, BundleFilter, BundleResponse, DraftRequest
from bundles.uploads.parsers import ManifestJson
from foundation.accounts.authentication import token_of
from foundation.accounts.permissions import ReadOrPublish
from foundation.api.pagination import NewestFirst
from foundation.api.query_parameters import ListView


class Bundles(ListView[Bundle]):
    """All bundles, newest first, including withdrawn ones."""

    permission_classes = [ReadOrPublish]
    parser_classes = [ManifestJson]
    serializer_class = BundleResponse
    filter_class = BundleFilter
    pagination_class = NewestFirst

    def get_queryset(self) -> QuerySet[Bundle]:
        return Bundle.objects.defer("manifest").filter(**self.filters())

    @extend_schema(parameters=[BundleFilter])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return self.list(request, *args, **kwargs)

    @extend_schema(request=DraftRequest, responses={201: BundleDetail, 200: BundleDetail})
    def post(self, request: Request) -> Response:
        """Draft a bundle from its manifest (at most 4 MiB). Idempotent: an identical manifest returns 200."""
        message = DraftRequest(data=request.data)
        message.is_valid(raise_exception=True)
        token = token_of(request)
        bundle, is_new = publishing.draft(
            manifest.read(message.validated_data["manifest"]), actor=token.actor, user=token.user
        )
        return Response(BundleDetail(bundle).data, status=201 if is_new else 200)


class OneBundle(APIView):
    permission_classes = [ReadOrPublish]

    @extend_schema(responses=BundleDetail)
    def get(self, request: Request, name: str, version: str) -> Response:
        """Return one bundle. A draft lists its missing blobs."""
        return Response(BundleDetail(Bundle.objects.get_by_label(f"{name}@{version}")).data)

    @extend_schema(responses={204: None, 409: OpenApiResponse(description="illegal_transition")})
    def delete(self, request: Request, name: str, version: str) -> Response:
        """Discard a draft. A published bundle is never deleted: withdraw it."""
        Bundle.objects.get_by_label(f"{name}@{version}").discard(actor=token_of(request).actor)
        return Response(status=204)


class PublishBundle(APIView):
    permission_classes = [ReadOrPublish]

    @extend_schema(
        request=None,
        responses={202: BundleDetail, 200: BundleDetail, 409: OpenApiResponse(description="missing_blobs")},
    )
    def post(self, request: Request, name: str, version: str) -> Response:
        """Publish a draft. 202 while it is being verified, 200 when it is ready."""
        bundle = Bundle.objects.get_by_label(f"{name}@{version}")
        publishing.publish(bundle, actor=token_of(request).actor)
        return Response(BundleDetail(bundle).data, status=200 if bundle.state == BundleState.READY else 202)


class WithdrawBundle(APIView):
    permission_classes = [ReadOrPublish]

    @extend_schema(request=None, responses=BundleDetail)
    def post(self, request: Request, name: str, version: str) -> Response:
        """Take a ready bundle out of service. Devices that run it keep running it."""
        bundle = Bundle.objects.get_by_label(f"{name}@{version}")
        bundle.withdraw(actor=token_of(request).actor)
        return Response(BundleDetail(bundle).data)
