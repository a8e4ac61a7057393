from django.db import migrations, models

# Manifests are canonical JSON. Few of them have a counter.
FILL = """
UPDATE bundles_bundle SET release_counter = (manifest::jsonb ->> 'release_counter')::bigint
WHERE manifest LIKE '%"release_counter":%' AND manifest::jsonb ? 'release_counter'
"""


class Migration(migrations.Migration):
    dependencies = [
        ("bundles", "0005_index_old_blobs_and_uploads"),
    ]

    operations = [
        migrations.AddField(
            model_name="bundle",
            name="release_counter",
            field=models.BigIntegerField(db_default=0, default=0, editable=False),
        ),
        migrations.RunSQL(FILL, migrations.RunSQL.noop),
    ]
