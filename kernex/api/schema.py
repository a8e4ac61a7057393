"""How the API describes itself in OpenAPI."""

from drf_spectacular.openapi import AutoSchema


class Schema(AutoSchema):
    """Room for what every endpoint shares: its error answers and its security schemes."""
