from django.db import migrations

# As before, but with stale statistics the planner compared every event with all ten thousand old ones. An array of keys
# and no sequential scan leave it only the index.
REPLACE = """
CREATE OR REPLACE FUNCTION public.delete_old_events(keep_days integer, batch_size integer) RETURNS integer
LANGUAGE sql VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan TO off AS $$
    WITH deleted AS (
        DELETE FROM public.events_event WHERE id = ANY (ARRAY(
            SELECT id FROM (
                SELECT id, at FROM public.events_event ORDER BY id LIMIT greatest(0, least(batch_size, 10000))
                FOR UPDATE SKIP LOCKED
            ) AS oldest
            WHERE oldest.at < pg_catalog.now() - pg_catalog.make_interval(days => greatest(keep_days, 30))
        ))
        RETURNING 1
    )
    SELECT pg_catalog.count(*)::integer FROM deleted
$$
"""


class Migration(migrations.Migration):
    dependencies = [
        ("events", "0003_create_delete_old_events"),
    ]

    operations = [
        migrations.RunSQL(REPLACE, migrations.RunSQL.noop),
    ]
