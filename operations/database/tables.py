"""The tables of Kernex."""

from functools import cache

from django.apps import apps


@cache
def own_tables() -> frozenset[str]:
    """Return the tables that Kernex's migrations make."""
    models = apps.get_models(include_auto_created=True)
    return frozenset({"django_migrations", *(model._meta.db_table for model in models)})
