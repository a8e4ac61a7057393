"""Groups and enrolment tokens, as operators see them."""

from datetime import timedelta
from uuid import UUID

from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import generics
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from devices.models import EnrolmentToken, Group
from devices.serializers import (
    EnrolmentTokenAnswer,
    EnrolmentTokenRequest,
    GroupAnswer,
    GroupRequest,
    NewEnrolmentToken,
)
from foundation.accounts.authentication import token_of
from foundation.api.pagination import NewestFirst, Pages

TAKEN = OpenApiResponse(description="group_exists")


class ByName(Pages):
    ordering = "name"


class Groups(generics.ListAPIView[Group]):
    """All groups by name."""

    queryset = Group.objects.all()
    serializer_class = GroupAnswer
    pagination_class = ByName

    @extend_schema(request=GroupRequest, responses={201: GroupAnswer, 409: TAKEN})
    def post(self, request: Request) -> Response:
        """Make a group; it decides how often its devices report."""
        message = GroupRequest(data=request.data)
        message.is_valid(raise_exception=True)
        group = Group.make(token_of(request).actor, **message.validated_data)
        return Response(GroupAnswer(group).data, status=201)


class OneGroup(APIView):
    @extend_schema(responses=GroupAnswer)
    def get(self, request: Request, name: str) -> Response:
        """One group."""
        return Response(GroupAnswer(get_object_or_404(Group, name=name)).data)

    @extend_schema(request=GroupRequest(partial=True), responses={200: GroupAnswer, 409: TAKEN})
    def patch(self, request: Request, name: str) -> Response:
        """Change a group's name, description or interval."""
        group = get_object_or_404(Group, name=name)
        message = GroupRequest(data=request.data, partial=True)
        message.is_valid(raise_exception=True)
        group.edit(token_of(request).actor, **message.validated_data)
        return Response(GroupAnswer(group).data)

    @extend_schema(responses={204: None, 409: OpenApiResponse(description="group_in_use")})
    def delete(self, request: Request, name: str) -> Response:
        """Delete a group that has neither devices nor usable enrolment tokens."""
        get_object_or_404(Group, name=name).remove(token_of(request).actor)
        return Response(status=204)


@extend_schema_view(get=extend_schema(responses=EnrolmentTokenAnswer))
class EnrolmentTokens(generics.ListAPIView[EnrolmentToken]):
    """All enrolment tokens, newest first, without their secrets."""

    queryset = EnrolmentToken.objects.select_related("group")
    serializer_class = EnrolmentTokenAnswer
    pagination_class = NewestFirst

    @extend_schema(request=EnrolmentTokenRequest, responses={201: NewEnrolmentToken})
    def post(self, request: Request) -> Response:
        """Make a token. Its string is in this answer and nowhere else."""
        message = EnrolmentTokenRequest(data=request.data)
        message.is_valid(raise_exception=True)
        wanted = dict(message.validated_data)
        expires_at = timezone.now() + timedelta(seconds=wanted.pop("expires_in_seconds"))
        api_token = token_of(request)
        token, secret = EnrolmentToken.issue(
            **wanted, expires_at=expires_at, created_by=api_token.user, actor=api_token.actor
        )
        return Response(EnrolmentTokenAnswer(token).data | {"token": secret}, status=201)


class RevokeEnrolmentToken(APIView):
    @extend_schema(request=None, responses=EnrolmentTokenAnswer)
    def post(self, request: Request, token_id: UUID) -> Response:
        """End a token. Devices that registered with it stay."""
        token = get_object_or_404(EnrolmentToken.objects.select_related("group"), pk=token_id)
        token.revoke(token_of(request).actor)
        token.refresh_from_db()
        return Response(EnrolmentTokenAnswer(token).data)
