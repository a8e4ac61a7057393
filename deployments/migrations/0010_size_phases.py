import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('deployments', '0009_pause_deployments'),
    ]

    operations = [
        migrations.AddField(
            model_name='phase',
            name='count',
            field=models.PositiveIntegerField(null=True),
        ),
        migrations.AddField(
            model_name='phase',
            name='evicted',
            field=models.PositiveIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name='phase',
            name='fill_ends_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='phase',
            name='forgiven',
            field=models.PositiveIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name='phase',
            name='manual_gate',
            field=models.BooleanField(db_default=False, default=False),
        ),
        migrations.AddField(
            model_name='phase',
            name='percent',
            field=models.PositiveSmallIntegerField(null=True),
        ),
        migrations.AddField(
            model_name='phase',
            name='soak_ends_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AlterField(
            model_name='phase',
            name='device_count',
            field=models.PositiveIntegerField(default=0),
        ),
        migrations.AlterField(
            model_name='phase',
            name='error_threshold_percent',
            field=models.PositiveSmallIntegerField(default=10),
        ),
        migrations.AlterField(
            model_name='phase',
            name='state',
            field=models.CharField(choices=[('pending', 'pending'), ('filling', 'filling'), ('settling', 'settling'), ('soaking', 'soaking'), ('gate', 'waiting at its gate'), ('passed', 'passed'), ('tripped', 'tripped'), ('skipped', 'skipped')], default='pending', max_length=16),
        ),
        migrations.AlterField(
            model_name='phase',
            name='success_threshold_percent',
            field=models.PositiveSmallIntegerField(default=95),
        ),
    ]
