from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("deployments", "0003_plan_deployments_in_the_scheduler"),
    ]

    operations = [
        migrations.AddField(
            model_name='devicedeployment',
            name='late_events',
            field=models.SmallIntegerField(db_default=0, default=0),
        ),
    ]
