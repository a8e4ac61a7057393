"""The tables of Kernex."""

from functools import cache

from django.apps import apps


@cache
def own_tables() -> frozenset[str]:
    """Return the names of the tables that Kernex's migrations create."""
    models = apps.get_models(include_auto_created=True)
    return frozenset({"django_migrations", *(model._meta.db_table for model in models)})
