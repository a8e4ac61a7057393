from django.apps import AppConfig

from kernex import checks

__all__ = ["KernexConfig", "checks"]  # importing the checks registers them


class KernexConfig(AppConfig):
    name = "kernex"
