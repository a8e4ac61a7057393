"""The admin's pages for devices, groups and enrolment tokens."""

from devices.admin import devices, enrolment

__all__ = ["devices", "enrolment"]
