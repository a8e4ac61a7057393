from django.contrib.postgres.fields import ArrayField
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("deployments", "0016_preview_deployments"),
    ]

    operations = [
        migrations.AddField(
            model_name=name,
            name="group_queries",
            field=ArrayField(base_field=models.TextField(), db_default=[], default=list, size=None),
        )
        for name in ("preview", "selection")
    ]
