import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('deployments', '0008_select_by_queries'),
    ]

    operations = [
        migrations.AddField(
            model_name='deployment',
            name='accept_seconds',
            field=models.PositiveIntegerField(db_default=3600, default=3600),
        ),
        migrations.AddField(
            model_name='deployment',
            name='allow_downgrade',
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddField(
            model_name='deployment',
            name='device_count',
            field=models.PositiveIntegerField(db_default=0, default=0, editable=False),
        ),
        migrations.AddField(
            model_name='deployment',
            name='fill_seconds',
            field=models.PositiveIntegerField(db_default=86400, default=86400),
        ),
        migrations.AddField(
            model_name='deployment',
            name='max_bad',
            field=models.PositiveIntegerField(null=True),
        ),
        migrations.AddField(
            model_name='deployment',
            name='min_sample',
            field=models.PositiveIntegerField(db_default=10, default=10),
        ),
        migrations.AddField(
            model_name='deployment',
            name='on_failure',
            field=models.CharField(choices=[('pause', 'pause the deployment'), ('cancel', 'cancel the deployment')], db_default='pause', default='pause', max_length=16),
        ),
        migrations.AddField(
            model_name='deployment',
            name='pause_reason',
            field=models.CharField(blank=True, choices=[('operator', 'by an operator'), ('manual_gate', "waits for an operator's decision"), ('success_missed', 'too few devices can succeed'), ('error_threshold', 'too many devices failed'), ('not_enough_devices', 'too few devices are reachable')], db_default='', default='', editable=False, max_length=32),
        ),
        migrations.AddField(
            model_name='deployment',
            name='paused_at',
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name='deployment',
            name='strata',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=80), db_default=[], default=list, size=None),
        ),
        migrations.AddField(
            model_name='deployment',
            name='stratum_sizes',
            field=models.JSONField(db_default={}, default=dict, editable=False),
        ),
        migrations.AlterField(
            model_name='deployment',
            name='state',
            field=models.CharField(choices=[('planning', 'planning'), ('running', 'running'), ('paused', 'paused'), ('cancelled', 'cancelled'), ('finished', 'finished')], default='planning', editable=False, max_length=16),
        ),
    ]
