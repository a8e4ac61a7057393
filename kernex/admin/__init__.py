"""The admin: what operators see and decide, over all rooms. Django finds the modules through this package."""

from kernex.admin import deployments, devices, enrolment, holds

__all__ = ["deployments", "devices", "enrolment", "holds"]
