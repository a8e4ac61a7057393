import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("devices", "0004_collect_logs"),
    ]

    operations = [
        migrations.AddField(
            model_name='logrequest',
            name='command',
            field=models.ForeignKey(null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='devices.command'),
        ),
    ]
