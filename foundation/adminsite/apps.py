from django.apps import AppConfig
from django.contrib.admin.apps import AdminConfig


class AdminSiteConfig(AppConfig):
    name = "foundation.adminsite"


class KernexAdminConfig(AdminConfig):
    """`django.contrib.admin` with the site of Kernex."""

    default = False
    default_site = "foundation.adminsite.site.KernexAdminSite"
