"""The devices app's models, a file for each noun. Import them from here."""

from devices.models.bulk_decision import BulkDecision, BulkDecisionState
from devices.models.command import Command, CommandKind, CommandOutcome, CommandState
from devices.models.command_payloads import BundleReference, CancelPayload, DeployPayload, SendLogsPayload
from devices.models.device import Device
from devices.models.device_queryset import DeviceQuerySet
from devices.models.device_state import Decision, DeviceState
from devices.models.enrolment_token import EnrolmentToken
from devices.models.group import Group, is_label
from devices.models.health import Health
from devices.models.heartbeat_sample import HeartbeatSample
from devices.models.log_request import LogBatch, LogBatchContent, LogRequest, LogRequestState

__all__ = [
    "BulkDecision",
    "BulkDecisionState",
    "BundleReference",
    "CancelPayload",
    "Command",
    "CommandKind",
    "CommandOutcome",
    "CommandState",
    "Decision",
    "DeployPayload",
    "Device",
    "DeviceQuerySet",
    "DeviceState",
    "EnrolmentToken",
    "Group",
    "Health",
    "HeartbeatSample",
    "LogBatch",
    "LogBatchContent",
    "LogRequest",
    "LogRequestState",
    "SendLogsPayload",
    "is_label",
]
