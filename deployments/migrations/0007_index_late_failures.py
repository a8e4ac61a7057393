from django.contrib.postgres.operations import RemoveIndexConcurrently
from django.db import migrations, models
from django.db.models import Q

from foundation.migration_locks import AddIndexBesideWriters


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("deployments", "0006_set_observation_times"),
    ]

    operations = [
        AddIndexBesideWriters(
            model_name="devicedeployment",
            index=models.Index(
                fields=["-finished_at"],
                name="device_deployment_unsuccessful",
                condition=Q(state__in=("failed", "rolled_back", "rejected", "timed_out")) | Q(late_at__isnull=False),
            ),
        ),
        AddIndexBesideWriters(
            model_name="devicedeployment",
            index=models.Index(
                fields=["deployment"],
                name="device_deployment_observed",
                condition=Q(observation_ends_at__isnull=False),
            ),
        ),
        AddIndexBesideWriters(
            model_name="devicedeployment",
            index=models.Index(
                fields=["late_at"], name="device_deployment_failed_late", condition=Q(late_at__isnull=False)
            ),
        ),
        RemoveIndexConcurrently(model_name="devicedeployment", name="device_deployment_failures"),
    ]
