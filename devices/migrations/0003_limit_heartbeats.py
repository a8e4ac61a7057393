from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("devices", "0002_store_command_outcomes"),
    ]

    operations = [
        migrations.AddField(
            model_name='device',
            name='clone_noted_at',
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name='device',
            name='heartbeat_due_at',
            field=models.DateTimeField(editable=False, null=True),
        ),
    ]
