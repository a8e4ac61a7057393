"""Which devices a deployment selects, which of them can take part, and why the others cannot: the SQL of planning.

`{window}`, `{query}`, `{exclude}` and `{stratum}` stand for fragments that `deployments.planning` inserts. `device` is
the alias of the device's table.
"""

# Inner queries with LIMIT keep their plan even when statistics are stale.
SELECTED_GROUP_SIZE = """
SELECT count(*) FROM (SELECT FROM devices_device WHERE group_id = ANY(%(groups)s) LIMIT %(size)s + 1) AS devices
"""
SMALL_WINDOW = """
    SELECT id FROM devices_device
    WHERE group_id = ANY(%(groups)s) AND (%(after)s::uuid IS NULL OR id > %(after)s)
    UNION
    SELECT id FROM devices_device
    WHERE id = ANY(%(devices)s) AND (%(after)s::uuid IS NULL OR id > %(after)s)
    ORDER BY id LIMIT %(size)s
"""
LARGE_WINDOW = """
    SELECT id FROM devices_device
    WHERE id > coalesce(%(after)s::uuid, '00000000-0000-0000-0000-000000000000')
    ORDER BY id LIMIT %(size)s
"""
# A decommissioned device counts as skipped only if the operator named it.
_SELECTED = """
visited AS MATERIALIZED ({window}),
selected AS (
    SELECT device.id, device.running_bundles -> %(product)s AS running,
        {stratum} AS stratum,
        CASE
            WHEN ({exclude}) IS TRUE THEN 'excluded'
            WHEN device.state = 'decommissioned' THEN 'decommissioned'
            WHEN device.state <> 'accepted' THEN 'not_accepted'
            WHEN NOT (cardinality(%(device_types)s::text[]) = 0 OR device.device_type = ANY(%(device_types)s))
                THEN 'wrong_device_type'
            WHEN jsonb_typeof(device.hardware -> 'memory') = 'number'
                AND (device.hardware -> 'memory')::numeric BETWEEN 1 AND %(memory)s - 1 THEN 'no_memory'
            WHEN jsonb_typeof(device.metrics -> 'disk_free') = 'number'
                AND (device.metrics -> 'disk_free')::numeric < %(disk)s THEN 'no_space'
            ELSE ''
        END AS reason
    FROM visited JOIN devices_device AS device ON device.id = visited.id
    WHERE ((device.group_id = ANY(%(groups)s) OR ({query}) IS TRUE) AND device.state <> 'decommissioned')
       OR device.id = ANY(%(devices)s)
),
judged AS (
    SELECT selected.id, selected.stratum, CASE
        WHEN reason <> '' OR running IS NULL THEN reason
        WHEN running ->> 'manifest_sha256' = %(manifest_sha256)s AND running ->> 'healthy' IS DISTINCT FROM 'false'
            AND (
                SELECT other.id FROM deployments_devicedeployment AS other
                WHERE other.device_id = selected.id AND other.product = %(product)s
                  AND other.state = ANY(%(unfinished)s) LIMIT 1
            ) IS NULL
            THEN 'already_running'
        WHEN NOT %(allow_downgrade)s AND running ->> 'manifest_sha256' = ANY(%(newer)s) THEN 'newer_running'
        ELSE ''
    END AS reason
    FROM selected
)
"""
_INSERT = """
inserted AS (
    INSERT INTO deployments_devicedeployment (
        id, deployment_id, phase_id, admitted_at, rank, stratum, device_id, product, state, attempt, report,
        reason_code, message, bytes_done, bytes_total, timings, reached_at, late_state,
        created_at, state_changed_at, finished_at)
    SELECT gen_random_uuid(), %(deployment)s,
        CASE WHEN reason = '' THEN %(phase)s::bigint END,
        CASE WHEN reason = '' AND %(phase)s::bigint IS NOT NULL THEN %(now)s::timestamptz END,
        -- From 0 to 2^61 - 1, and below 0 for canaries. An eviction adds more than that.
        (hashtextextended(id::text, hashtextextended(%(deployment)s::text, 0)) & 2305843009213693951)
            - CASE WHEN id = ANY(%(canaries)s) THEN 2305843009213693952 ELSE 0 END,
        stratum, id, %(product)s, CASE WHEN reason = '' THEN 'waiting' ELSE 'skipped' END, 1, 0,
        reason, '', 0, 0, '{{}}', '{{}}', '',
        %(created_at)s, %(now)s, CASE WHEN reason <> '' THEN %(now)s::timestamptz END
    FROM judged
    ON CONFLICT (deployment_id, device_id) DO NOTHING
)
"""
PLAN = f"""
WITH {_SELECTED}, {_INSERT}
SELECT (SELECT count(*) FROM visited), (SELECT id FROM visited ORDER BY id DESC LIMIT 1),
    (SELECT coalesce(json_object_agg(reason, devices), '{{{{}}}}')::text
        FROM (SELECT reason, count(*) AS devices FROM judged GROUP BY reason) AS reasons)
"""  # noqa: S608 — the fragments are constants.
NEWER_RELEASES = """
SELECT manifest_sha256 FROM bundles_bundle WHERE name = %s AND release_counter > %s
"""
