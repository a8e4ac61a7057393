"""The operators' endpoints of deployments."""

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.http import Http404
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from deployments.changes import change_deployment
from deployments.definition import start
from deployments.models import Deployment, DeploymentQuerySet, DeviceDeployment
from deployments.phases.control import Resumption, pause_deployment, promote_deployment, resume_deployment
from deployments.repetition import retry_failed, start_again
from deployments.request_serializers import (
    DEFINITION_ERRORS,
    ChangeRequest,
    DeploymentRequest,
    ResumeRequest,
    RetryRequest,
    RollbackRequest,
)
from deployments.rollback import roll_back
from deployments.serializers import (
    DeploymentFilter,
    DeploymentResponse,
    DeviceDeploymentFilter,
    DeviceDeploymentResponse,
    deployment_responses,
)
from foundation.accounts.authentication import token_of
from foundation.api.pagination import NewestFirst
from foundation.api.query_parameters import ListView


def all_deployments() -> DeploymentQuerySet:
    return Deployment.objects.select_related("bundle").defer("bundle__manifest")


def deployment_body(deployment: Deployment) -> Any:
    return deployment_responses([deployment])[0]


def find(deployment_id: UUID) -> Deployment:
    """Return one deployment with its bundle. Raises `Http404`."""
    return get_object_or_404(all_deployments(), pk=deployment_id)


class Deployments(ListView[Deployment]):
    filter_class = DeploymentFilter
    serializer_class = DeploymentResponse
    pagination_class = NewestFirst

    def get_queryset(self) -> QuerySet[Deployment]:
        return all_deployments().matching(**self.filters())

    @extend_schema(parameters=[DeploymentFilter])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """All deployments, newest first."""
        page = self.paginate_queryset(self.get_queryset()) or []
        return self.get_paginated_response(deployment_responses(list(page)))

    @extend_schema(request=DeploymentRequest, responses={201: DeploymentResponse, **DEFINITION_ERRORS})
    def post(self, request: Request) -> Response:
        """Start a deployment. The response has the state `planning` and zero counts, whatever the fleet's size.

        The scheduler then goes through the chosen devices. A device that cannot take part is counted in `skipped`. When
        every device was visited, the deployment is `running`, or `finished` with the reason `no_devices`.
        """
        body = DeploymentRequest(data=request.data)
        body.is_valid(raise_exception=True)
        token = token_of(request)
        deployment = start(body.definition(), actor=token.actor, created_by=token.user)
        return Response(deployment_body(deployment), status=201)


class OneDeployment(APIView):
    @extend_schema(responses=DeploymentResponse)
    def get(self, request: Request, deployment_id: UUID) -> Response:
        """One deployment, with the number of device deployments in each state."""
        return Response(deployment_body(find(deployment_id)))

    @extend_schema(
        request=ChangeRequest,
        responses={
            200: DeploymentResponse,
            400: OpenApiResponse(description="bad_times, bad_limits"),
            409: OpenApiResponse(description="wrong_state"),
        },
    )
    def patch(self, request: Request, deployment_id: UUID) -> Response:
        """Change the times, limits, priority or attempts of a deployment that has not ended. Idempotent."""
        body = ChangeRequest(data=request.data)
        body.is_valid(raise_exception=True)
        deployment = find(deployment_id)
        changes = dict(body.validated_data)
        reason = changes.pop("reason", "")
        changed = change_deployment(deployment, changes, reason=reason, actor=token_of(request).actor)
        return Response(deployment_body(changed))


class DeploymentDevices(ListView[DeviceDeployment]):
    filter_class = DeviceDeploymentFilter
    serializer_class = DeviceDeploymentResponse
    queryset = DeviceDeployment.objects.none()  # for the schema

    def get_queryset(self) -> QuerySet[DeviceDeployment]:
        deployment_id = self.kwargs["deployment_id"]
        filters = self.filters()
        if not Deployment.objects.filter(pk=deployment_id).exists():
            raise Http404
        rows = DeviceDeployment.objects.filter(deployment_id=deployment_id).with_result(filters.get("state", ""))
        return rows.with_device_names()

    @extend_schema(parameters=[DeviceDeploymentFilter])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """The devices of a deployment, each with its state, progress and reason."""
        return self.list(request, *args, **kwargs)


class PauseDeployment(APIView):
    @extend_schema(request=None, responses={200: DeploymentResponse, 409: OpenApiResponse(description="wrong_state")})
    def post(self, request: Request, deployment_id: UUID) -> Response:
        """Pause a deployment. Idempotent. Nothing more is offered; devices that have accepted an offer finish."""
        deployment = find(deployment_id)
        pause_deployment(deployment, actor=token_of(request).actor)
        return Response(deployment_body(deployment))


class ResumeDeployment(APIView):
    @extend_schema(
        request=ResumeRequest,
        responses={
            200: DeploymentResponse,
            400: OpenApiResponse(description="reason_required"),
            409: OpenApiResponse(description="wrong_state, decision_required, last_phase"),
        },
    )
    def post(self, request: Request, deployment_id: UUID) -> Response:
        """Continue a paused deployment. Idempotent.

        After a trip, the request must contain a decision and its reason: a new threshold, `accept_failures`, or
        `skip_phase`.
        """
        body = ResumeRequest(data=request.data)
        body.is_valid(raise_exception=True)
        deployment = find(deployment_id)
        resume_deployment(deployment, Resumption(**body.validated_data), actor=token_of(request).actor)
        return Response(deployment_body(deployment))


class PromoteDeployment(APIView):
    @extend_schema(
        request=None,
        responses={200: DeploymentResponse, 409: OpenApiResponse(description="wrong_state, nothing_to_promote")},
    )
    def post(self, request: Request, deployment_id: UUID) -> Response:
        """Begin the next phase, although the current one waits for results, soaks, or waits at its gate."""
        deployment = find(deployment_id)
        promote_deployment(deployment, actor=token_of(request).actor)
        return Response(deployment_body(deployment))


class RollBackDeployment(APIView):
    @extend_schema(
        request=RollbackRequest,
        responses={201: DeploymentResponse, 409: OpenApiResponse(description="wrong_state, is_a_rollback")},
    )
    def post(self, request: Request, deployment_id: UUID) -> Response:
        """Bring the devices of a deployment back to what they ran before. Idempotent. Returns the rollback.

        The scheduler then plans the rollback. The deployment itself ends with the outcome `rolled_back`.
        """
        body = RollbackRequest(data=request.data)
        body.is_valid(raise_exception=True)
        deployment = find(deployment_id)
        token = token_of(request)
        reason = body.validated_data.get("reason", "")
        rollback = roll_back(deployment, reason=reason, actor=token.actor, created_by=token.user)
        return Response(deployment_body(rollback), status=201)


class RetryDeployment(APIView):
    @extend_schema(
        request=RetryRequest,
        responses={
            201: DeploymentResponse,
            400: OpenApiResponse(description="too_many_devices"),
            409: OpenApiResponse(description="nothing_to_retry, bundle_not_ready, is_a_rollback"),
        },
    )
    def post(self, request: Request, deployment_id: UUID) -> Response:
        """Start a deployment to the devices that failed in this one, at once or late. Returns the new deployment."""
        body = RetryRequest(data=request.data)
        body.is_valid(raise_exception=True)
        deployment = find(deployment_id)
        token = token_of(request)
        reason_codes = body.validated_data.get("reason_codes", ())
        retry = retry_failed(deployment, reason_codes, actor=token.actor, created_by=token.user)
        return Response(deployment_body(retry), status=201)


class RepeatDeployment(APIView):
    @extend_schema(
        request=None,
        responses={
            201: DeploymentResponse,
            409: OpenApiResponse(description="bundle_not_ready, is_a_rollback"),
        },
    )
    def post(self, request: Request, deployment_id: UUID) -> Response:
        """Start a deployment with the same definition. Returns the new deployment."""
        deployment = find(deployment_id)
        token = token_of(request)
        repetition = start_again(deployment, actor=token.actor, created_by=token.user)
        return Response(deployment_body(repetition), status=201)


class CancelDeployment(APIView):
    @extend_schema(request=None, responses={200: DeploymentResponse, 409: OpenApiResponse(description="wrong_state")})
    def post(self, request: Request, deployment_id: UUID) -> Response:
        """Cancel a deployment. Idempotent. The response has the state `cancelled`, whatever the fleet's size.

        The scheduler then cancels the devices that wait and asks active ones to stop. `finished_at` is set when all
        have ended.
        """
        deployment = find(deployment_id)
        deployment.cancel(token_of(request).actor)
        return Response(deployment_body(deployment))
