"""The admin of devices, bulk decisions, groups, enrolment tokens and collected logs."""

from devices.admin import bulk_decisions, devices, enrolment, log_requests

__all__ = ["bulk_decisions", "devices", "enrolment", "log_requests"]
