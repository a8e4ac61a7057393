from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="RateLimit",
            fields=[
                ("key", models.CharField(max_length=100, primary_key=True, serialize=False)),
                ("theoretical_arrival_at", models.DateTimeField()),
            ],
        ),
        # UNLOGGED: no row is worth its write-ahead log. Free space in each page keeps updates in place (HOT).
        migrations.RunSQL(
            "ALTER TABLE rate_limits_ratelimit SET UNLOGGED; ALTER TABLE rate_limits_ratelimit SET (fillfactor = 50)",
            migrations.RunSQL.noop,
        ),
    ]
