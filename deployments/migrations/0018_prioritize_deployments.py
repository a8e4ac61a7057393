from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("deployments", "0017_select_dynamic_groups"),
    ]

    operations = [
        migrations.AddField(
            model_name="deployment",
            name="priority",
            field=models.PositiveSmallIntegerField(db_default=50, default=50),
        ),
        # Deployments that exist, or that a process of the previous release starts, are not retried.
        migrations.AddField(
            model_name="deployment",
            name="max_attempts",
            field=models.PositiveSmallIntegerField(db_default=1, default=3),
        ),
        migrations.AddField(
            model_name="deployment",
            name="superseded",
            field=models.PositiveIntegerField(db_default=0, default=0, editable=False),
        ),
    ]
