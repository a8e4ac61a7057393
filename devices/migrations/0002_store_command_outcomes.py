import django.contrib.postgres.fields
import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("devices", "0001_initial"),
    ]

    operations = [
        migrations.AddField(
            model_name='command',
            name='ended_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='command',
            name='outcome',
            field=models.CharField(blank=True, choices=[('done', 'done'), ('failed', 'failed'), ('unknown_command', 'unknown command')], db_default='', default='', max_length=16),
        ),
        migrations.AddField(
            model_name='command',
            name='outcome_message',
            field=models.CharField(blank=True, db_default='', default='', max_length=500),
        ),
        migrations.AlterField(
            model_name='command',
            name='kind',
            field=models.CharField(choices=[('deploy', 'deploy'), ('cancel', 'cancel'), ('send_logs', 'send logs')], max_length=16),
        ),
        migrations.AlterField(
            model_name='device',
            name='tags',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=63, validators=[django.core.validators.RegexValidator('\\A[A-Za-z0-9][A-Za-z0-9._+-]{0,62}\\Z', 'Use 1 to 63 letters (capitals too), digits and . _ + - with a letter or a digit first.')]), blank=True, default=list, size=None),
        ),
        migrations.AlterField(
            model_name='group',
            name='name',
            field=models.CharField(max_length=63, unique=True, validators=[django.core.validators.RegexValidator('\\A[A-Za-z0-9][A-Za-z0-9._+-]{0,62}\\Z', 'Use 1 to 63 letters (capitals too), digits and . _ + - with a letter or a digit first.')]),
        ),
    ]
