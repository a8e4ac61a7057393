from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("deployments", "0007_index_late_failures"),
    ]

    operations = [
        migrations.AddField(
            model_name="selection",
            name="query",
            field=models.TextField(db_default="", default=""),
        ),
        migrations.AddField(
            model_name="selection",
            name="exclude",
            field=models.TextField(db_default="", default=""),
        ),
    ]
