"""What a device reports to run, compared with what was deployed to it."""

from django.db import models

from devices.models import Device


class Comparison(models.Model):
    """The last comparison of one device. Rows are written by `deployments.drift`."""

    device = models.OneToOneField(Device, primary_key=True, on_delete=models.CASCADE, related_name="+")
    # The device's `running_changed_at` at that time.
    compared_to = models.DateTimeField()
    # The fields of a `deployments.drift.Mismatch`, by product.
    differences = models.JSONField(default=dict)

    def __str__(self) -> str:
        return f"{self.device_id}: {len(self.differences)} differences"
