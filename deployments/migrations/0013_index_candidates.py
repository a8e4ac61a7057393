import django.contrib.postgres.fields
import django.db.models.deletion
from django.contrib.postgres.operations import ValidateConstraint
from foundation.migration_locks import AddIndexBesideWriters
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ('deployments', '0012_rank_and_skip_devices'),
    ]

    operations = [
        AddIndexBesideWriters(
            model_name='devicedeployment',
            index=models.Index(condition=models.Q(('phase__isnull', True), ('state', 'waiting')), fields=['deployment', 'rank'], name='device_deployment_candidates'),
        ),
        ValidateConstraint(model_name='devicedeployment', name='device_deployment_state_known'),
        ValidateConstraint(model_name='devicedeployment', name='device_deployment_finished_at'),
    ]
