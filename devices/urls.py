"""The routes of the devices app, under /api/v1/."""

from django.urls import path

from devices.device_views import Attributes, Heartbeat, LogBatches, Register
from devices.group_views import EnrolmentTokens, Groups, OneGroup, RevokeEnrolmentToken
from devices.log_views import DeviceLogRequests, LogRequestText, OneLogRequest
from devices.views import (
    ApproveDevice,
    Commands,
    DecommissionDevice,
    Devices,
    ExportDevices,
    History,
    OneDevice,
    RejectDevice,
)

urlpatterns = [
    # What devices call.
    path("devices/register", Register.as_view(), name="register"),
    path("devices/<uuid:device_id>/heartbeat", Heartbeat.as_view(), name="heartbeat"),
    path("devices/<uuid:device_id>/attributes", Attributes.as_view(), name="attributes"),
    path("devices/<uuid:device_id>/log-requests/<uuid:request_id>/batches", LogBatches.as_view(), name="log-batches"),
    # What operators call.
    path("devices", Devices.as_view(), name="devices"),
    path("devices/export", ExportDevices.as_view(), name="devices-export"),
    path("devices/<uuid:device_id>", OneDevice.as_view(), name="device"),
    path("devices/<uuid:device_id>/approve", ApproveDevice.as_view(), name="device-approve"),
    path("devices/<uuid:device_id>/reject", RejectDevice.as_view(), name="device-reject"),
    path("devices/<uuid:device_id>/decommission", DecommissionDevice.as_view(), name="device-decommission"),
    path("devices/<uuid:device_id>/history", History.as_view(), name="device-history"),
    path("devices/<uuid:device_id>/commands", Commands.as_view(), name="device-commands"),
    path("devices/<uuid:device_id>/logs", DeviceLogRequests.as_view(), name="device-logs"),
    path("log-requests/<uuid:request_id>", OneLogRequest.as_view(), name="log-request"),
    path("log-requests/<uuid:request_id>/text", LogRequestText.as_view(), name="log-request-text"),
    path("groups", Groups.as_view(), name="groups"),
    path("groups/<str:name>", OneGroup.as_view(), name="group"),
    path("enrolment-tokens", EnrolmentTokens.as_view(), name="enrolment-tokens"),
    path("enrolment-tokens/<uuid:token_id>/revoke", RevokeEnrolmentToken.as_view(), name="enrolment-token-revoke"),
]
