"""Which devices an operator selected, and how far the scheduler has gone through them."""

from django.contrib.postgres.fields import ArrayField
from django.db import models

from deployments.models.deployment import Deployment


class SelectedDevices(models.Model):
    """Groups, devices and queries that select devices, and a position among those devices."""

    groups = ArrayField(models.UUIDField(), default=list)
    # The queries of the dynamic groups, as they were when the deployment was started.
    group_queries = ArrayField(models.TextField(), default=list, db_default=[])
    devices = ArrayField(models.UUIDField(), default=list)
    # Queries: which further devices are selected, and which of all these are not (`devices.queries`). Empty: none.
    query = models.TextField(default="", db_default="")
    exclude = models.TextField(default="", db_default="")
    # Selected devices that every phase admits first, even if they are not reachable.
    canaries = ArrayField(models.UUIDField(), default=list, db_default=[])
    # The devices are visited in the order of their ids; this is the last one so far.
    planned_up_to = models.UUIDField(null=True)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        query = f" and {self.query}" if self.query else ""
        return f"{len(self.groups) + len(self.group_queries)} groups and {len(self.devices)} devices{query}"


class Selection(SelectedDevices):
    """The devices of a deployment.

    It has a separate table because lists of deployments do not read it, and it may name thousands of devices.
    """

    deployment = models.OneToOneField(Deployment, primary_key=True, on_delete=models.CASCADE, related_name="+")
