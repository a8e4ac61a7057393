from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("bundles", "0003_send_archives_to_the_bucket")]

    operations = [
        migrations.AddField(
            model_name="blob",
            name="unreferenced_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.CreateModel(
            name="BlobDeletion",
            fields=[
                ("sha256", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("size", models.BigIntegerField()),
                ("deleted_at", models.DateTimeField(null=True)),
            ],
        ),
    ]
