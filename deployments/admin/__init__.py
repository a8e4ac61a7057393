"""The admin pages of deployments and holds, and what deployments add to the page of a device."""

from deployments.admin import deployments, devices, holds

__all__ = ["deployments", "devices", "holds"]
