import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('deployments', '0013_index_candidates'),
    ]

    operations = [
        migrations.AddField(
            model_name='deployment',
            name='reverts',
            field=models.ForeignKey(editable=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='rollbacks', to='deployments.deployment'),
        ),
        migrations.AddField(
            model_name='deployment',
            name='rolled_back_at',
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AlterField(
            model_name='deployment',
            name='on_failure',
            field=models.CharField(choices=[('pause', 'pause the deployment'), ('cancel', 'cancel the deployment'), ('roll_back', 'roll it back')], db_default='pause', default='pause', max_length=16),
        ),
        migrations.AlterField(
            model_name='deployment',
            name='state',
            field=models.CharField(choices=[('planning', 'planning'), ('running', 'running'), ('paused', 'paused'), ('rolling_back', 'rolling back'), ('cancelled', 'cancelled'), ('finished', 'finished')], default='planning', editable=False, max_length=16),
        ),
    ]
