from django.db import migrations, models
from django.db.models import Q

from foundation.migration_locks import AddIndexBesideWriters


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("deployments", "0019_retry_devices"),
    ]

    operations = [
        AddIndexBesideWriters(
            model_name="devicedeployment",
            index=models.Index(
                fields=["device", "finished_at"],
                name="device_deployment_cooling",
                condition=Q(state__in=("failed", "rolled_back", "rejected", "timed_out")) | Q(late_at__isnull=False),
            ),
        ),
    ]
