from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("deployments", "0018_prioritize_deployments"),
    ]

    operations = [
        migrations.AddField(
            model_name="devicedeployment",
            name="failures",
            field=models.PositiveSmallIntegerField(db_default=0, default=0),
        ),
        migrations.AddField(
            model_name="devicedeployment",
            name="retry_at",
            field=models.DateTimeField(null=True),
        ),
    ]
