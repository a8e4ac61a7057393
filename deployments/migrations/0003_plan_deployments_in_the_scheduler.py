import django.contrib.postgres.fields
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('bundles', '0003_send_archives_to_the_bucket'),
        ('deployments', '0002_hold_deployments'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Selection',
            fields=[
                ('deployment', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='+', serialize=False, to='deployments.deployment')),
                ('groups', django.contrib.postgres.fields.ArrayField(base_field=models.UUIDField(), default=list, size=None)),
                ('devices', django.contrib.postgres.fields.ArrayField(base_field=models.UUIDField(), default=list, size=None)),
                ('planned_up_to', models.UUIDField(null=True)),
            ],
        ),
        migrations.AddField(
            model_name='deployment',
            name='reason_code',
            field=models.CharField(db_default='', default='', editable=False, max_length=64),
        ),
        migrations.AlterField(
            model_name='deployment',
            name='state',
            field=models.CharField(choices=[('planning', 'planning'), ('running', 'running'), ('cancelled', 'cancelled'), ('finished', 'finished')], default='planning', editable=False, max_length=16),
        ),
        migrations.AddConstraint(
            model_name='deployment',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('state', 'planning'), _negated=True), ('finished_at__isnull', True), _connector='OR'), name='deployment_planning_is_unfinished'),
        ),
    ]
