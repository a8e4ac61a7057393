"""Times as the API writes them."""

from datetime import datetime

from rest_framework.settings import api_settings


def format_time(moment: datetime) -> str:
    """A time in UTC as ISO 8601 with `Z`: what serializers write, for payloads that none makes."""
    return moment.strftime(str(api_settings.DATETIME_FORMAT))
