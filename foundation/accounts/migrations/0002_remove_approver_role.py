from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("tokens", "0001_initial"),
    ]

    operations = [
        migrations.AlterModelOptions(name="apitoken", options={"verbose_name": "API token"}),
        migrations.AlterField(
            model_name="apitoken",
            name="role",
            field=models.CharField(
                choices=[
                    ("viewer", "viewer"), ("operator", "operator"), ("publisher", "publisher"), ("admin", "admin"),
                ],
                max_length=16,
            ),
        ),
    ]
