from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("deployments", "0004_count_late_events"),
    ]

    operations = [
        migrations.AddField(
            model_name="devicedeployment",
            name="observation_ends_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="devicedeployment",
            name="suspicion",
            field=models.CharField(db_default="", default="", max_length=16),
        ),
        migrations.AddField(
            model_name="devicedeployment",
            name="suspected_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="devicedeployment",
            name="late_reason_code",
            field=models.CharField(db_default="", default="", max_length=64),
        ),
        migrations.AddField(
            model_name="devicedeployment",
            name="late_message",
            field=models.TextField(db_default="", default=""),
        ),
        migrations.AddField(
            model_name="devicedeployment",
            name="late_at",
            field=models.DateTimeField(null=True),
        ),
    ]
