from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("devices", "0010_index_attributes_and_tags"),
    ]

    operations = [
        migrations.AddField(
            model_name="device",
            name="is_test",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="Left out of the fleet's statistics. Deployments can admit test devices first.",
                verbose_name="test device",
            ),
        ),
    ]
