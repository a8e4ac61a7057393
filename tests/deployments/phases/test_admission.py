"""Which devices a phase admits."""

from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from bundles.models import Bundle
from deployments.models import Deployment, DeviceDeployment
from deployments.phases.admission import admit
from deployments.phases.definition import PhaseDefinition
from devices.models import Device
from tests.factories import make_deployment, make_device

pytestmark = pytest.mark.django_db
CANARY = (PhaseDefinition(percent=10), PhaseDefinition())


def online(count: int) -> list[Device]:
    return [make_device(last_heartbeat_at=timezone.now()) for _ in range(count)]


def rows(deployment: Deployment, **filters: Any) -> list[DeviceDeployment]:
    return list(DeviceDeployment.objects.filter(deployment=deployment, **filters).order_by("rank"))


# Plans that PostgreSQL may choose when its statistics are stale.
PLANS = (
    ("hashagg", "hashjoin", "mergejoin", "sort"),
    ("hashagg", "hashjoin", "mergejoin", "sort", "material", "indexscan", "bitmapscan"),
)


@pytest.mark.parametrize("switched_off", PLANS)
def test_no_plan_admits_more_devices_than_are_missing(bundle: Bundle, switched_off: tuple[str, ...]) -> None:
    deployment = make_deployment(bundle, *online(20), phases=CANARY)
    with connection.cursor() as cursor:
        for node in switched_off:
            cursor.execute(f"SET LOCAL enable_{node} = off")
    assert admit(deployment, deployment.phases.get(number=1), 2) == 2
    first, second = rows(deployment, phase__number=1)
    assert [first.pk, second.pk] == [row.pk for row in rows(deployment)[:2]]
