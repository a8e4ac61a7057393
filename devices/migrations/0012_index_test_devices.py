from django.db import migrations, models
from django.db.models import Q

from foundation.migration_locks import AddIndexBesideWriters


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("devices", "0011_mark_test_devices"),
    ]

    operations = [
        AddIndexBesideWriters(
            model_name="device",
            index=models.Index(fields=["id"], name="device_test", condition=Q(is_test=True)),
        ),
    ]
