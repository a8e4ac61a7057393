"""What deployments add to queries over devices: a device's part in one deployment, and its drift."""

from datetime import datetime
from uuid import UUID

from bundles.models import Bundle
from deployments.models import Comparison, DeviceDeployment
from deployments.states import FAILED_LATE, RESULTS
from devices.models import Device, DeviceState
from devices.queries.fields import Field, FieldType
from devices.queries.suggestions import MAX_VALUES
from devices.queries.values import EXAMPLE_ID

# Scalar subqueries stay index look-ups even when the statistics of a table are stale; joins do not.
_ITS_PART = "FROM deployments_devicedeployment AS its_part WHERE its_part.device_id = {device}.id"
_IS_SELECTED = f"(SELECT true {_ITS_PART} AND its_part.deployment_id = %(value)s::uuid)"
_RESULT = f"""(
    SELECT CASE WHEN its_part.late_at IS NULL THEN its_part.state ELSE '{FAILED_LATE}' END
    {_ITS_PART} AND its_part.deployment_id = %(path_0)s::uuid
)"""
_ITS_DRIFT = f"""FROM deployments_comparison AS its_comparison
    WHERE its_comparison.device_id = {{device}}.id AND {{device}}.state = '{DeviceState.ACCEPTED.value}'"""
_DRIFT = f"(SELECT ARRAY(SELECT jsonb_object_keys(its_comparison.differences))::varchar[] {_ITS_DRIFT})"
_DRIFTS = f"(SELECT its_comparison.differences <> '{{}}' {_ITS_DRIFT})"
_PRODUCT_DRIFTS = f"(SELECT its_comparison.differences ? %(value)s {_ITS_DRIFT})"


def _deployments(device: Device, _: datetime, __: tuple[str, ...]) -> list[str]:
    rows = DeviceDeployment.objects.filter(device=device.pk).order_by()
    return [str(deployment_id) for deployment_id in rows.values_list("deployment_id", flat=True)]


def _result(device: Device, _: datetime, path: tuple[str, ...]) -> str | None:
    row = DeviceDeployment.objects.filter(device=device.pk, deployment=UUID(path[0])).only("state", "late_at").first()
    return str(row.result) if row else None


def _drift(device: Device, _: datetime, __: tuple[str, ...]) -> list[str]:
    if device.state != DeviceState.ACCEPTED:
        return []
    return [
        product
        for differences in Comparison.objects.filter(device=device.pk).values_list("differences", flat=True)
        for product in differences
    ]


def complete_products(prefix: str) -> list[str]:
    """Return a few names of bundles that begin with a text."""
    bundles = Bundle.objects.filter(name__startswith=prefix.lower()).order_by("name")
    return list(bundles.values_list("name", flat=True).distinct()[:MAX_VALUES])


def _complete_drift(prefix: str) -> list[str]:
    return [*(each for each in ("true", "false") if each.startswith(prefix.lower())), *complete_products(prefix)]


FIELDS = (
    Field(
        "deployment", FieldType.IDS, f"(SELECT its_part.id {_ITS_PART} LIMIT 1)", _deployments,
        f"deployment = {EXAMPLE_ID}", equal_sql=_IS_SELECTED,
    ),
    Field(
        "deployment", FieldType.CHOICE, _RESULT, _result, f"deployment.{EXAMPLE_ID} = failed", path=("ID",),
        choices=RESULTS,
    ),
    Field("drift", FieldType.PRODUCTS, _DRIFT, _drift, "drift = true", completer=_complete_drift,
        equal_sql=_PRODUCT_DRIFTS, set_sql=_DRIFTS),
)  # fmt: skip
