"""The operators' endpoints for groups and enrolment tokens."""

from datetime import timedelta
from uuid import UUID

from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_view
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from devices.group_removal import remove_group
from devices.models import EnrolmentToken, Group
from devices.serializers import (
    EnrolmentTokenRequest,
    EnrolmentTokenResponse,
    GroupDetail,
    GroupRequest,
    GroupResponse,
    NewEnrolmentToken,
)
from foundation.accounts.authentication import token_of
from foundation.api.pagination import NewestFirst, Pages
from foundation.api.query_parameters import ListView

GROUP_EXISTS = OpenApiResponse(description="group_exists")
GROUP_CONFLICT = OpenApiResponse(description="group_exists, wrong_group_type")
BAD_QUERY = OpenApiResponse(description="invalid_query")


class ByName(Pages):
    ordering = "name"


class Groups(ListView[Group]):
    """All groups by name."""

    queryset = Group.objects.all()
    serializer_class = GroupResponse
    pagination_class = ByName

    @extend_schema(request=GroupRequest, responses={201: GroupResponse, 400: BAD_QUERY, 409: GROUP_EXISTS})
    def post(self, request: Request) -> Response:
        """Create a group: a static one, which sets how often its devices report, or a dynamic one with a query."""
        serializer = GroupRequest(data=request.data)
        serializer.is_valid(raise_exception=True)
        group = Group.create(token_of(request).actor, **serializer.validated_data)
        return Response(GroupResponse(group).data, status=201)


class OneGroup(APIView):
    @extend_schema(responses=GroupDetail)
    def get(self, request: Request, name: str) -> Response:
        """One group, with the number of its devices."""
        return Response(GroupDetail(get_object_or_404(Group, name=name)).data)

    @extend_schema(
        request=GroupRequest(partial=True), responses={200: GroupResponse, 400: BAD_QUERY, 409: GROUP_CONFLICT}
    )
    def patch(self, request: Request, name: str) -> Response:
        """Change a group's name, description, interval, or the query of a dynamic group."""
        group = get_object_or_404(Group, name=name)
        serializer = GroupRequest(group, data=request.data, partial=True)
        serializer.is_valid(raise_exception=True)
        group.edit(token_of(request).actor, **serializer.validated_data)
        return Response(GroupResponse(group).data)

    @extend_schema(responses={204: None, 409: OpenApiResponse(description="group_in_use")})
    def delete(self, request: Request, name: str) -> Response:
        """Delete a group that has neither devices nor usable enrolment tokens."""
        remove_group(get_object_or_404(Group, name=name), token_of(request).actor)
        return Response(status=204)


@extend_schema_view(get=extend_schema(responses=EnrolmentTokenResponse))
class EnrolmentTokens(ListView[EnrolmentToken]):
    """All enrolment tokens, newest first, without their secrets."""

    queryset = EnrolmentToken.objects.select_related("group")
    serializer_class = EnrolmentTokenResponse
    pagination_class = NewestFirst

    @extend_schema(request=EnrolmentTokenRequest, responses={201: NewEnrolmentToken})
    def post(self, request: Request) -> Response:
        """Create a token. Only this response contains its secret."""
        serializer = EnrolmentTokenRequest(data=request.data)
        serializer.is_valid(raise_exception=True)
        values = dict(serializer.validated_data)
        expires_at = timezone.now() + timedelta(seconds=values.pop("expires_in_seconds"))
        api_token = token_of(request)
        token, secret = EnrolmentToken.issue(
            **values, expires_at=expires_at, created_by=api_token.user, actor=api_token.actor
        )
        return Response(EnrolmentTokenResponse(token).data | {"token": secret}, status=201)


class RevokeEnrolmentToken(APIView):
    @extend_schema(request=None, responses=EnrolmentTokenResponse)
    def post(self, request: Request, token_id: UUID) -> Response:
        """Revoke a token. Devices that registered with it stay registered."""
        token = get_object_or_404(EnrolmentToken.objects.select_related("group"), pk=token_id)
        token.revoke(token_of(request).actor)
        token.refresh_from_db()
        return Response(EnrolmentTokenResponse(token).data)
