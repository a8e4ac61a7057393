"""Rate limits across all processes: the generic cell rate algorithm (GCRA) in one SQL statement.

Each key has a theoretical arrival time, which every admitted request moves forward by `60 / per_minute` seconds. A
request is refused while that time lies more than a minute's worth of requests ahead. So a key may send `per_minute`
requests at once, and `per_minute` per minute on average.
"""

import math

from django.db import connection, models

# One round trip. The second part reads the row as it was before the statement: the wait of a refused request.
_SPEND = """
    WITH admitted AS (
        INSERT INTO rate_limits_ratelimit AS held (key, theoretical_arrival_at)
        VALUES (%(key)s, statement_timestamp() + %(cost)s * interval '1 second')
        ON CONFLICT (key) DO UPDATE
        SET theoretical_arrival_at =
            greatest(held.theoretical_arrival_at, statement_timestamp()) + %(cost)s * interval '1 second'
        WHERE held.theoretical_arrival_at <= statement_timestamp() + %(burst)s * interval '1 second'
        RETURNING 1)
    SELECT EXISTS (SELECT FROM admitted),
        (SELECT extract(epoch FROM theoretical_arrival_at - statement_timestamp())
         FROM rate_limits_ratelimit WHERE key = %(key)s)
"""
_DELETE_UNUSED = """
    DELETE FROM rate_limits_ratelimit WHERE key IN (
        SELECT key FROM rate_limits_ratelimit WHERE theoretical_arrival_at < now()
        LIMIT %s FOR UPDATE SKIP LOCKED)
"""


class RateLimit(models.Model):
    """The usage of one key. The table is UNLOGGED: after the database crashes, all limits start from scratch."""

    key = models.CharField(primary_key=True, max_length=100)
    theoretical_arrival_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.key


def seconds_to_wait(key: str, per_minute: int) -> int:
    """Count one request against a key. Return 0 if it is admitted, otherwise the seconds to wait.

    Call it outside a transaction: the row stays locked until the end of the transaction, and a rollback would give the
    request back.
    """
    cost = 60 / per_minute
    burst = 60 - cost
    with connection.cursor() as cursor:
        cursor.execute(_SPEND, {"key": key, "cost": cost, "burst": burst})
        is_admitted, ahead = cursor.fetchone()
    if is_admitted:
        return 0
    # `ahead` may be older than the row: another process may have written it since this statement began.
    return max(1, math.ceil(float(ahead or 0) - burst))


def delete_unused(size: int) -> int:
    """Delete up to `size` rows that no longer limit anything. Return how many were deleted."""
    with connection.cursor() as cursor:
        cursor.execute(_DELETE_UNUSED, [size])
        return int(cursor.rowcount)
