from django.db import migrations, models

from foundation.migration_locks import AddIndexBesideWriters


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("events", "0001_initial"),
    ]

    operations = [
        AddIndexBesideWriters(
            model_name="event",
            index=models.Index(condition=models.Q(("kind", "backup.made")), fields=["-at"], name="event_backup"),
        ),
    ]
