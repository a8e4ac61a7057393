from django.apps import AppConfig


class KernexConfig(AppConfig):
    name = "kernex"
