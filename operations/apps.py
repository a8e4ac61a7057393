from django.apps import AppConfig

from operations import checks

__all__ = ["OperationsConfig", "checks"]  # importing the checks registers them


class OperationsConfig(AppConfig):
    name = "operations"
