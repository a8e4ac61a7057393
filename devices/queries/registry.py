"""The one table of the fields of queries: those of all apps in `settings.QUERY_FIELDS`.

An app above `devices` defines a tuple of `Field`s and is named in the setting. So nothing here imports upwards.
"""

from functools import cache

from django.conf import settings
from django.utils.module_loading import import_string

from devices.queries.fields import Field


@cache
def query_fields() -> dict[str, Field]:
    """Return all fields by their titles, such as `attr.KEY`."""
    return {field.title: field for path in settings.QUERY_FIELDS for field in import_string(path)}


def complete_path(part: str, prefix: str) -> list[str]:
    """Return a few values that begin with a text, for a part of a field's name such as `PRODUCT`."""
    path = settings.QUERY_PATH_COMPLETERS.get(part)
    return list(import_string(path)(prefix)) if path else []


def fields_named(name: str) -> list[Field]:
    """Return the fields of a name. `deployment` and `deployment.ID` have the same one."""
    return [field for field in query_fields().values() if field.name == name]
