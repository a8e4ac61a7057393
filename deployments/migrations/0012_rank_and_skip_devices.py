import django.contrib.postgres.fields
import django.db.models.deletion
from django.contrib.postgres.operations import AddConstraintNotValid, ValidateConstraint
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('deployments', '0011_name_canaries'),
    ]

    operations = [
        migrations.AddField(
            model_name='devicedeployment',
            name='admitted_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='devicedeployment',
            name='rank',
            field=models.BigIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name='devicedeployment',
            name='stratum',
            field=models.CharField(db_default='', default='', max_length=200),
        ),
        # Django would also create the foreign key again, and lock the phases for it.
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(
                    'ALTER TABLE deployments_devicedeployment ALTER COLUMN phase_id DROP NOT NULL',
                    migrations.RunSQL.noop,
                )
            ],
            state_operations=[
                migrations.AlterField(
                    model_name='devicedeployment',
                    name='phase',
                    field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='deployments.phase'),
                ),
            ],
        ),
        migrations.AlterField(
            model_name='devicedeployment',
            name='state',
            field=models.CharField(choices=[('skipped', 'skipped'), ('waiting', 'waiting'), ('offered', 'offered'), ('accepted', 'accepted'), ('downloading', 'downloading'), ('installing', 'installing'), ('checking', 'checking'), ('cancelling', 'cancelling'), ('succeeded', 'succeeded'), ('failed', 'failed'), ('rolled_back', 'rolled back'), ('rejected', 'rejected'), ('timed_out', 'timed out'), ('cancelled', 'cancelled')], default='waiting', max_length=16),
        ),
        migrations.RemoveConstraint(
            model_name='devicedeployment',
            name='device_deployment_state_known',
        ),
        migrations.RemoveConstraint(
            model_name='devicedeployment',
            name='device_deployment_finished_at',
        ),
        AddConstraintNotValid(
            model_name='devicedeployment',
            constraint=models.CheckConstraint(condition=models.Q(('state__in', ['skipped', 'waiting', 'offered', 'accepted', 'downloading', 'installing', 'checking', 'cancelling', 'succeeded', 'failed', 'rolled_back', 'rejected', 'timed_out', 'cancelled'])), name='device_deployment_state_known'),
        ),
        AddConstraintNotValid(
            model_name='devicedeployment',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('finished_at__isnull', False), ('state__in', ('skipped', 'succeeded', 'failed', 'rolled_back', 'rejected', 'timed_out', 'cancelled'))), models.Q(models.Q(('state__in', ('skipped', 'succeeded', 'failed', 'rolled_back', 'rejected', 'timed_out', 'cancelled')), _negated=True), ('finished_at__isnull', True)), _connector='OR'), name='device_deployment_finished_at'),
        ),
    ]
