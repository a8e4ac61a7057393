from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("devices", "0007_record_bulk_decisions"),
    ]

    operations = [
        migrations.AddField(
            model_name="device",
            name="running_sha256",
            field=models.CharField(db_default="", default="", editable=False, max_length=64),
        ),
        migrations.AddField(
            model_name="device",
            name="reported_health",
            field=models.CharField(db_default="", default="", editable=False, max_length=16),
        ),
        migrations.AddField(
            model_name="device",
            name="health_changed_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="device",
            name="noted_health",
            field=models.CharField(db_default="", default="", editable=False, max_length=16),
        ),
        migrations.AddField(
            model_name="device",
            name="health_noted_at",
            field=models.DateTimeField(editable=False, null=True),
        ),
    ]
