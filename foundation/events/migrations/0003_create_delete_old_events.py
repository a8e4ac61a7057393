from django.db import migrations

# Events may only be added by the role for data alone (operations/database/runtime_role.py): a stolen password of that
# role cannot rewrite or hide what happened. This function is its one exception. It runs with the rights of the tables'
# owner, deletes only events older than 30 days whatever it is asked, and at most 10,000 a call. The first rows by id
# are looked at, because ids rise with time: a call that finds nothing to delete reads one batch, not the table.
CREATE = """
CREATE FUNCTION public.delete_old_events(keep_days integer, batch_size integer) RETURNS integer
LANGUAGE sql VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH oldest AS (
        SELECT id, at FROM public.events_event ORDER BY id LIMIT greatest(0, least(batch_size, 10000))
        FOR UPDATE SKIP LOCKED
    ), deleted AS (
        DELETE FROM public.events_event USING oldest
        WHERE events_event.id = oldest.id
          AND oldest.at < pg_catalog.now() - pg_catalog.make_interval(days => greatest(keep_days, 30))
        RETURNING 1
    )
    SELECT pg_catalog.count(*)::integer FROM deleted
$$;
REVOKE ALL ON FUNCTION public.delete_old_events(integer, integer) FROM PUBLIC;
DO $$
DECLARE
    grantee regrole;
BEGIN
    -- Roles that may add events already: `grant_perms --runtime-role` does not have to run again.
    FOR grantee IN
        SELECT acl.grantee FROM pg_class, aclexplode(relacl) AS acl
        WHERE pg_class.oid = 'public.events_event'::regclass AND acl.privilege_type = 'INSERT'
          AND acl.grantee NOT IN (0, relowner)
    LOOP
        EXECUTE format('GRANT EXECUTE ON FUNCTION public.delete_old_events(integer, integer) TO %s', grantee);
    END LOOP;
END
$$
"""


class Migration(migrations.Migration):

    dependencies = [
        ("events", "0002_event_backup"),
    ]

    operations = [
        migrations.RunSQL(CREATE, "DROP FUNCTION public.delete_old_events(integer, integer)"),
    ]
