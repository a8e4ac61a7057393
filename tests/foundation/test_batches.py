"""Batch loops: one transaction for each batch, until nothing is left or time is up."""

import pytest
from django.db import connection

from foundation.batches import run_in_batches


@pytest.mark.django_db(transaction=True)
def test_it_continues_while_batches_are_full() -> None:
    counts = iter([10, 10, 3, 99])
    assert run_in_batches(lambda: next(counts), size=10) == 23
    assert next(counts) == 99


@pytest.mark.django_db(transaction=True)
def test_it_stops_when_time_is_up() -> None:
    counts = iter([10, 10])
    assert run_in_batches(lambda: next(counts), size=10, seconds=-1) == 10


@pytest.mark.django_db(transaction=True)
def test_each_batch_is_one_transaction_and_a_failure_undoes_only_its_own() -> None:
    calls = 0

    def work() -> int:
        nonlocal calls
        assert connection.in_atomic_block
        calls += 1
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO auth_group (name) VALUES (%s)", [f"batch {calls}"])
        if calls == 2:
            raise RuntimeError
        return 1

    with pytest.raises(RuntimeError):
        run_in_batches(work, size=1)
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM auth_group")
        assert cursor.fetchall() == [("batch 1",)]
