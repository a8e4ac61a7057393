"""Deployments, as operators see them."""

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import Http404
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import generics
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from bundles.models import Bundle
from deployments import rollout
from deployments.models import Deployment, DeploymentQuerySet, DeviceDeployment
from deployments.serializers import (
    DeploymentAnswer,
    DeploymentFilter,
    DeploymentRequest,
    DeviceDeploymentAnswer,
    DeviceDeploymentFilter,
    counts_of,
)
from foundation.accounts.authentication import token_of
from foundation.api.pagination import NewestFirst


def all_deployments() -> DeploymentQuerySet:
    return Deployment.objects.select_related("bundle").defer("bundle__manifest")


def answer(deployment: Deployment) -> Any:
    return DeploymentAnswer(deployment, context={"counts": counts_of([deployment])}).data


class Deployments(generics.ListAPIView[Deployment]):
    serializer_class = DeploymentAnswer
    pagination_class = NewestFirst

    def get_queryset(self) -> QuerySet[Deployment]:
        wanted = DeploymentFilter(data=self.request.query_params.dict())
        wanted.is_valid(raise_exception=True)
        return all_deployments().matching(**wanted.validated_data)

    @extend_schema(parameters=[DeploymentFilter])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """All deployments, newest first."""
        page = self.paginate_queryset(self.get_queryset()) or []
        answers = DeploymentAnswer(page, many=True, context={"counts": counts_of(list(page))})
        return self.get_paginated_response(answers.data)

    @extend_schema(
        request=DeploymentRequest,
        responses={
            201: DeploymentAnswer,
            400: OpenApiResponse(description="nobody_chosen, unknown_groups, unknown_devices"),
            404: OpenApiResponse(description="unknown_bundle"),
            409: OpenApiResponse(description="bundle_not_ready, no_devices"),
        },
    )
    def post(self, request: Request) -> Response:
        """Deploy a bundle. Chosen devices that cannot take it are left out and counted in `skipped`."""
        message = DeploymentRequest(data=request.data)
        message.is_valid(raise_exception=True)
        wanted = dict(message.validated_data)
        bundle = Bundle.objects.defer("manifest").get_by_label(wanted.pop("bundle"))
        token = token_of(request)
        deployment = rollout.start(bundle, **wanted, actor=token.actor, created_by=token.user)
        return Response(answer(deployment), status=201)


class OneDeployment(APIView):
    @extend_schema(responses=DeploymentAnswer)
    def get(self, request: Request, deployment_id: UUID) -> Response:
        """One deployment, with how many devices are in which state."""
        return Response(answer(get_object_or_404(all_deployments(), pk=deployment_id)))


class DeploymentDevices(generics.ListAPIView[DeviceDeployment]):
    serializer_class = DeviceDeploymentAnswer
    queryset = DeviceDeployment.objects.none()  # for the schema

    def get_queryset(self) -> QuerySet[DeviceDeployment]:
        deployment_id = self.kwargs["deployment_id"]
        wanted = DeviceDeploymentFilter(data=self.request.query_params.dict())
        wanted.is_valid(raise_exception=True)
        if not Deployment.objects.filter(pk=deployment_id).exists():
            raise Http404
        rows = DeviceDeployment.objects.filter(deployment_id=deployment_id, **wanted.validated_data)
        return rows.with_device_names()

    @extend_schema(parameters=[DeviceDeploymentFilter])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """The devices of a deployment, each with its state, progress and reason."""
        return self.list(request, *args, **kwargs)


class CancelDeployment(APIView):
    @extend_schema(request=None, responses={200: DeploymentAnswer, 409: OpenApiResponse(description="wrong_state")})
    def post(self, request: Request, deployment_id: UUID) -> Response:
        """Stop a deployment: who waits is cancelled now, who is at work is asked to stop. Harmless when repeated."""
        deployment = get_object_or_404(all_deployments(), pk=deployment_id)
        deployment.cancel(token_of(request).actor)
        return Response(answer(deployment))
