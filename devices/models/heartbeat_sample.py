"""The history of heartbeats, sampled."""

from django.db import models


class HeartbeatSample(models.Model):
    """One heartbeat of a device, kept as history. The scheduler deletes old ones."""

    id = models.BigAutoField(primary_key=True)
    device = models.ForeignKey("devices.Device", on_delete=models.CASCADE, related_name="+", db_index=False)
    at = models.DateTimeField()
    status = models.CharField(max_length=32)
    metrics = models.JSONField()

    class Meta:
        ordering = ["-at"]
        indexes = [
            # The history of one device, newest first.
            models.Index(fields=["device", "-at"], name="sample_device_at"),
            # Retention deletes by age.
            models.Index(fields=["at"], name="sample_at"),
        ]

    def __str__(self) -> str:
        return f"{self.device_id} {self.at:%Y-%m-%d %H:%M}"
