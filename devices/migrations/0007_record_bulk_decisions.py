import django.contrib.postgres.fields
import uuid
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('devices', '0006_index_commands'),
    ]

    operations = [
        migrations.CreateModel(
            name='BulkDecision',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('decision', models.CharField(choices=[('approve', 'approve'), ('reject', 'reject'), ('decommission', 'decommission')], max_length=16)),
                ('state', models.CharField(choices=[('running', 'running'), ('finished', 'finished'), ('stopped', 'stopped')], default='running', max_length=16)),
                ('actor', models.CharField(max_length=160)),
                ('device_ids', django.contrib.postgres.fields.ArrayField(base_field=models.UUIDField(), size=None)),
                ('total', models.PositiveIntegerField()),
                ('processed', models.PositiveIntegerField(default=0)),
                ('changed', models.PositiveIntegerField(default=0)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('finished_at', models.DateTimeField(null=True)),
            ],
            options={
                'ordering': ['-created_at'],
                'indexes': [models.Index(condition=models.Q(('state', 'running')), fields=['created_at'], name='bulk_decision_running')],
            },
        ),
    ]
