"""The admin's pages for bundles and archives."""

from bundles.admin import archives, bundles

__all__ = ["archives", "bundles"]
