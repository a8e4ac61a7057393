import django.db.models.deletion
from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [
        ("devices", "0012_index_test_devices"),
    ]

    operations = [
        migrations.AddField(
            model_name="group",
            name="query",
            field=models.TextField(blank=True, db_default="", default="", max_length=4096),
        ),
        # These change forms only, and no table.
        *(
            migrations.AlterField(
                model_name=model_name,
                name="group",
                field=models.ForeignKey(
                    limit_choices_to=Q(query=""),
                    on_delete=django.db.models.deletion.PROTECT,
                    related_name="+",
                    to="devices.group",
                ),
            )
            for model_name in ("device", "enrolmenttoken")
        ),
    ]
