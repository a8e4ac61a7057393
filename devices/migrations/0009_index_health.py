from django.db import migrations, models
from django.db.models import F, Q

from foundation.migration_locks import AddIndexBesideWriters


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("devices", "0008_report_health"),
    ]

    operations = [
        AddIndexBesideWriters(
            model_name="device",
            index=models.Index(
                fields=["health_changed_at"],
                name="device_health_unnoted",
                condition=~Q(reported_health=F("noted_health")),
            ),
        ),
    ]
