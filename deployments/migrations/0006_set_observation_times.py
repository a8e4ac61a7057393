from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("deployments", "0005_observe_successes"),
    ]

    operations = [
        migrations.AddField(
            model_name="deployment",
            name="observation_seconds",
            field=models.PositiveIntegerField(db_default=600, default=600),
        ),
        migrations.AddField(
            model_name="deployment",
            name="unhealthy_seconds",
            field=models.PositiveIntegerField(db_default=60, default=60),
        ),
        migrations.AddField(
            model_name="deployment",
            name="late_failures",
            field=models.PositiveIntegerField(db_default=0, default=0, editable=False),
        ),
    ]
