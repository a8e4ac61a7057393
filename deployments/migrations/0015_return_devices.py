import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('deployments', '0014_roll_back_deployments'),
    ]

    operations = [
        migrations.AddField(
            model_name='devicedeployment',
            name='bundle',
            field=models.ForeignKey(db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='bundles.bundle'),
        ),
        migrations.AddField(
            model_name='devicedeployment',
            name='previous_manifest_sha256',
            field=models.CharField(db_default='', default='', max_length=64),
        ),
    ]
