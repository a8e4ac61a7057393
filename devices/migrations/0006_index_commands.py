import django.db.models.deletion
from django.db import migrations, models

from foundation.migration_locks import AddIndexBesideWriters


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("devices", "0005_link_log_requests_to_commands"),
    ]

    operations = [
        AddIndexBesideWriters(
            model_name='command',
            index=models.Index(fields=['device', '-id'], name='command_device'),
        ),
        AddIndexBesideWriters(
            model_name='command',
            index=models.Index(fields=['created_at'], name='command_created'),
        ),
        migrations.AlterField(
            model_name='command',
            name='device',
            field=models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='devices.device'),
        ),
    ]
