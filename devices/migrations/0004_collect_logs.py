import django.db.models.deletion
import django.db.models.lookups
import uuid
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("devices", "0003_limit_heartbeats"),
    ]

    operations = [
        migrations.CreateModel(
            name='LogBatch',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('number', models.PositiveIntegerField()),
                ('source', models.CharField(max_length=140)),
                ('text', models.TextField()),
            ],
            options={
                'ordering': ['number'],
            },
        ),
        migrations.CreateModel(
            name='LogRequest',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('state', models.CharField(choices=[('requested', 'requested'), ('collecting', 'collecting'), ('complete', 'complete'), ('failed', 'failed'), ('expired', 'expired')], default='requested', max_length=16)),
                ('reason', models.CharField(blank=True, default='', max_length=500)),
                ('max_size', models.PositiveIntegerField()),
                ('size', models.PositiveIntegerField(default=0)),
                ('batches', models.PositiveIntegerField(default=0)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('created_by', models.CharField(max_length=160)),
                ('expires_at', models.DateTimeField()),
                ('finished_at', models.DateTimeField(null=True)),
            ],
            options={
                'ordering': ['-created_at'],
            },
        ),
        migrations.AddField(
            model_name='logrequest',
            name='device',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='devices.device'),
        ),
        migrations.AddField(
            model_name='logbatch',
            name='log_request',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='devices.logrequest'),
        ),
        migrations.AddIndex(
            model_name='logrequest',
            index=models.Index(fields=['device', '-created_at'], name='log_request_device'),
        ),
        migrations.AddIndex(
            model_name='logrequest',
            index=models.Index(condition=models.Q(('state__in', ('requested', 'collecting'))), fields=['expires_at'], name='log_request_unfinished'),
        ),
        migrations.AddIndex(
            model_name='logrequest',
            index=models.Index(condition=models.Q(('finished_at__isnull', False)), fields=['finished_at'], name='log_request_finished'),
        ),
        migrations.AddConstraint(
            model_name='logrequest',
            constraint=models.UniqueConstraint(condition=models.Q(('state__in', ('requested', 'collecting'))), fields=('device',), name='one_unfinished_log_request_per_device'),
        ),
        migrations.AddConstraint(
            model_name='logbatch',
            constraint=models.UniqueConstraint(fields=('log_request', 'number'), name='log_batch_once'),
        ),
        migrations.AddConstraint(
            model_name='logbatch',
            constraint=models.CheckConstraint(condition=django.db.models.lookups.LessThanOrEqual(models.Func(models.F('text'), function='octet_length', output_field=models.IntegerField()), 131072), name='log_batch_is_bounded'),
        ),
    ]
