"""Times in the API's format."""

from datetime import datetime

from rest_framework.settings import api_settings


def format_time(moment: datetime) -> str:
    """Return a UTC time as ISO 8601 with `Z`, as serializers write it, for payloads without a serializer."""
    return moment.strftime(str(api_settings.DATETIME_FORMAT))
