"""Offers: one at a time for each device and product, in the order of precedence."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from bundles.models import Bundle
from deployments import offers
from deployments.models import Deployment, DeviceDeployment, Phase
from deployments.offers import offer
from devices.models import Command, Device
from tests.factories import make_bundle, make_deployment, make_device, make_device_deployment

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.django_db


def states(deployment: Deployment) -> list[str]:
    return sorted(DeviceDeployment.objects.filter(deployment=deployment).values_list("state", flat=True))


def test_an_offer_queues_the_command(bundle: Bundle) -> None:
    device = make_device()
    deployment = make_deployment(bundle, device, deadline_seconds=600)
    assert offer() == 1
    assert offer() == 0
    device_deployment = DeviceDeployment.objects.get(deployment=deployment)
    assert (device_deployment.state, device_deployment.attempt) == ("offered", 1)
    assert device_deployment.offered_at is not None
    assert device_deployment.deadline_at is not None
    assert (device_deployment.deadline_at - device_deployment.offered_at).total_seconds() == 600
    command = Command.objects.get()
    assert (command.device_id, command.kind, command.device_deployment_id) == (
        device.pk,
        "deploy",
        device_deployment.pk,
    )
    assert command.payload == {
        "deployment_id": str(deployment.pk),
        "attempt": 1,
        "bundle": {
            "name": "vad",
            "version": "1.0.0",
            "manifest_sha256": bundle.manifest_sha256,
            "manifest_size": len(bundle.manifest.encode()),
        },
        "deadline_at": device_deployment.deadline_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
    }


def test_a_device_gets_its_deployments_one_after_the_other(bundle: Bundle) -> None:
    device = make_device()
    first, second, third = (make_deployment(bundle, device, priority=priority) for priority in (70, 60, 50))
    assert offer() == 1
    assert (states(first), states(second), states(third)) == (["offered"], ["waiting"], ["waiting"])
    assert offer() == 0
    DeviceDeployment.objects.filter(deployment=first).transition_to("succeeded")
    assert offer() == 1
    assert (states(second), states(third)) == (["offered"], ["waiting"])


def test_deployments_of_different_products_run_at_the_same_time(bundle: Bundle) -> None:
    device = make_device()
    make_deployment(bundle, device)
    make_deployment(make_bundle("asr@1.0.0"), device)
    assert offer() == 2


def test_a_busy_device_does_not_delay_other_devices(bundle: Bundle) -> None:
    make_device_deployment("installing", device=(busy := make_device()))
    deployment = make_deployment(bundle, busy, make_device())
    assert offer() == 1
    assert states(deployment) == ["offered", "waiting"]


@pytest.mark.parametrize("state", ["offered", "accepted", "downloading", "installing", "checking", "cancelling"])
def test_the_database_refuses_a_second_active_device_deployment(state: str) -> None:
    first = make_device_deployment(state)
    second = make_device_deployment("waiting", device=first.device)
    with pytest.raises(IntegrityError, match="one_active_per_device_and_product"), transaction.atomic():
        DeviceDeployment.objects.filter(pk=second.pk).transition_to("offered", deadline_at=timezone.now())


def test_no_offer_if_the_device_deployment_phase_or_bundle_forbids_it(bundle: Bundle) -> None:
    of_pending_device, of_cancelled_deployment, in_waiting_phase = (
        make_device_deployment(device=make_device(), bundle=bundle) for _ in range(3)
    )
    make_device_deployment(bundle=make_bundle("asr@1.0.0"))
    Device.objects.filter(pk=of_pending_device.device_id).update(state="pending")
    Deployment.objects.filter(pk=of_cancelled_deployment.deployment_id).update(state="cancelled")
    Phase.objects.filter(deployment=in_waiting_phase.deployment_id).update(state="pending")
    Bundle.objects.filter(name="asr").update(state="withdrawn")
    assert offer() == 0
    assert not Command.objects.exists()


def test_a_waiting_phase_does_not_delay_other_deployments(bundle: Bundle) -> None:
    device = make_device()
    older = make_deployment(bundle, device)
    Phase.objects.filter(deployment=older).update(state="pending")
    make_deployment(bundle, device)
    assert offer() == 1
    assert states(older) == ["waiting"]


def test_conditions_are_subqueries_and_not_joins() -> None:
    """As joins, they take minutes right after a large deployment was planned."""
    with connection.cursor() as cursor:
        sql, values = offers.free_to_offer([1, 2]).order_by()[:1000].query.sql_with_params()
        cursor.execute(f"EXPLAIN {sql}", values)
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "Anti Join" not in plan
    assert plan.count("SubPlan") >= 2


def test_many_devices_need_few_statements(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    devices = [make_device() for _ in range(25)]
    make_deployment(bundle, *devices)
    # Two statements look for open phases and for deployments with limits. Each batch: begin, lock against holds, open
    # phases, rollbacks, device deployments, deployments, update, commands, commit. The second batch is not full, so it
    # is the last.
    monkeypatch.setattr(offers, "BATCH", 20)
    with django_assert_num_queries(2 + 2 * 9):
        assert offer() == 25
    assert Command.objects.count() == 25


def test_an_idle_run_needs_one_query(bundle: Bundle, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    make_device_deployment("offered")
    Deployment.objects.update(state="finished")
    with django_assert_num_queries(1):
        assert offer() == 0


@pytest.mark.django_db(transaction=True)
def test_a_device_deployment_that_another_scheduler_locked_is_skipped(bundle: Bundle) -> None:
    locked, free = make_device_deployment(device=make_device()), make_device_deployment(device=make_device())
    offered: list[int] = []

    def offer_in_another_session() -> None:
        offered.append(offer())
        connection.close()

    with transaction.atomic():
        DeviceDeployment.objects.select_for_update().get(pk=locked.pk)
        thread = threading.Thread(target=offer_in_another_session)
        thread.start()
        thread.join(10)
    assert offered == [1]
    assert DeviceDeployment.objects.get(pk=free.pk).state == "offered"
    assert offer() == 1


@pytest.mark.django_db(transaction=True)
def test_no_device_deployment_is_offered_without_its_command(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The transition and the command are in one transaction."""
    device_deployment = make_device_deployment()
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE devices_command ADD CONSTRAINT no_deploy CHECK (kind <> 'deploy') NOT VALID")
    try:
        with pytest.raises(IntegrityError, match="no_deploy"):
            offer()
        device_deployment.refresh_from_db()
        assert (device_deployment.state, Command.objects.count()) == ("waiting", 0)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE devices_command DROP CONSTRAINT no_deploy")
    assert offer() == 1


@pytest.mark.django_db(transaction=True)
def test_the_constraint_prevents_a_second_offer_in_a_race(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older deployment may become visible after a newer deployment was read."""
    device = make_device()
    make_device_deployment("offered", device=device)
    make_deployment(bundle, device)
    monkeypatch.setattr(offers, "free_to_offer", lambda phases: DeviceDeployment.objects.waiting())
    assert offer() == 0
    assert Command.objects.count() == 0


OFFER = """
import sys, time, django
django.setup()
from deployments import offers
offers.BATCH = 20
total, empty_runs = 0, 0
print("ready", flush=True)
sys.stdin.readline()
while empty_runs < 20:
    offered = offers.offer()
    total += offered
    empty_runs = 0 if offered else empty_runs + 1
    time.sleep(0.001)
print(total)
"""


@pytest.mark.django_db(transaction=True)
def test_four_processes_offer_each_device_once(bundle: Bundle) -> None:
    devices = [make_device() for _ in range(300)]
    make_deployment(bundle, *devices)
    second = make_deployment(bundle, *devices, priority=10)
    url = "postgresql://{USER}:{PASSWORD}@{HOST}:{PORT}/{NAME}".format(**connection.settings_dict)
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", OFFER],
            cwd=ROOT,
            env=os.environ | {"DATABASE_URL": url},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        started = time.monotonic()
        totals = [int(process.communicate("go\n", timeout=60)[0]) for process in processes]
        assert time.monotonic() - started < 60
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert sum(totals) == 300
    assert all(process.returncode == 0 for process in processes)
    assert Command.objects.count() == 300
    assert Command.objects.values("device").distinct().count() == 300
    assert set(states(second)) == {"waiting"}
