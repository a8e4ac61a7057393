"""The admin pages of deployments and holds, and what deployments add to the pages of bundles and devices."""

from deployments.admin import bundles, deployments, devices, holds

__all__ = ["bundles", "deployments", "devices", "holds"]
