from django.db import migrations, models

from foundation.migration_locks import AddIndexBesideWriters


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("bundles", "0004_mark_unreferenced_blobs")]

    operations = [
        AddIndexBesideWriters(
            model_name="blob",
            index=models.Index(
                fields=["unreferenced_at"],
                name="blob_unreferenced",
                condition=models.Q(("unreferenced_at__isnull", False)),
            ),
        ),
        AddIndexBesideWriters(
            model_name="upload",
            index=models.Index(
                fields=["touched_at"],
                name="upload_ended",
                condition=models.Q(("state__in", ["stored", "refused", "expired"])),
            ),
        ),
    ]
