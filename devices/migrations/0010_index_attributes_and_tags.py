from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import migrations
from django.db.models import F

from foundation.migration_locks import AddIndexBesideWriters


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("devices", "0009_index_health"),
    ]

    operations = [
        AddIndexBesideWriters(
            model_name="device",
            index=GinIndex(OpClass(F("attributes"), name="jsonb_path_ops"), name="device_attributes"),
        ),
        AddIndexBesideWriters(model_name="device", index=GinIndex(fields=["tags"], name="device_tags")),
    ]
