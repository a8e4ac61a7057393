from django.apps import AppConfig


class RateLimitsConfig(AppConfig):
    name = "foundation.rate_limits"
    label = "rate_limits"
