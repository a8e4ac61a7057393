"""The admin of devices, groups, enrolment tokens and collected logs."""

from devices.admin import devices, enrolment, log_requests

__all__ = ["devices", "enrolment", "log_requests"]
