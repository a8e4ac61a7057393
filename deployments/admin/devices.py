"""What deployments add to devices in the admin: an action to deploy a bundle, and each device's deployments."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from bundles.models import Bundle
from deployments.definition import MAX_DEVICES, Definition, start
from deployments.models import Comparison, DeviceDeployment
from devices.admin.devices import HISTORY_SHOWN
from devices.admin.devices import DeviceAdmin as BaseDeviceAdmin
from devices.models import Device, DeviceState
from foundation.adminsite.base import actor_of, is_confirmed
from foundation.errors import ApiError

admin.site.unregister(Device)


class DeployForm(forms.Form):
    """Which bundle to deploy to the chosen devices."""

    bundle = forms.ModelChoiceField(
        Bundle.objects.none(), empty_label="Choose a bundle", widget=UnfoldAdminSelectWidget
    )
    note = forms.CharField(
        max_length=500, required=False, label="Note (why, for other operators)", widget=UnfoldAdminTextInputWidget
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["bundle"].queryset = Bundle.objects.ready().defer("manifest")  # type: ignore[attr-defined]


@admin.register(Device)
class DeviceAdmin(BaseDeviceAdmin):
    actions = (*BaseDeviceAdmin.actions, "deploy")
    change_form_after_template = "deployments/device_history.html"

    def has_deploy_permission(self, request: HttpRequest) -> bool:
        """The same permission as on the page of deployments."""
        return self.has_right(request, "deployments.add_deployment")

    def buttons_for(self, obj: Device) -> dict[str, str]:
        deploy = {"deploy": "Deploy a bundle"} if obj.state == DeviceState.ACCEPTED else {}
        return deploy | super().buttons_for(obj)

    def history_of(self, device_id: UUID) -> dict[str, Any]:
        rows = DeviceDeployment.objects.filter(device_id=device_id).select_related("bundle", "deployment__bundle")
        rows = rows.defer("bundle__manifest", "deployment__bundle__manifest")
        comparison = Comparison.objects.filter(device_id=device_id).first()
        return super().history_of(device_id) | {
            "device_deployments": rows.defer("bundle__manifest", "deployment__bundle__manifest").order_by(
                "-created_at"
            )[:HISTORY_SHOWN],
            "differences": comparison.differences if comparison else {},
        }

    @admin.action(description="Deploy a bundle", permissions=["deploy"])
    def deploy(self, request: HttpRequest, queryset: QuerySet[Device]) -> HttpResponse | None:
        if not Bundle.objects.ready().exists():
            self.message_user(request, "No bundle is ready. Publish one first.", messages.WARNING)
            return None
        form = DeployForm(request.POST if is_confirmed(request) else None)
        if not is_confirmed(request) or not form.is_valid():
            return self.ask(
                request, queryset, action="deploy", title="Deploy a bundle", form=form,
                consequence="Each device downloads the bundle, installs it and checks its health. If the check fails,"
                " the device rolls back to its previous version.",
            )  # fmt: skip
        try:
            # One device more than allowed is enough for a refusal, and does not load the whole fleet.
            devices = list(queryset.order_by().values_list("pk", flat=True)[: MAX_DEVICES + 1])
            definition = Definition(form.cleaned_data["bundle"], devices=devices, note=form.cleaned_data["note"])
            user = request.user if request.user.is_authenticated else None
            deployment = start(definition, actor=actor_of(request), created_by=user)
        except ApiError as error:
            self.message_user(request, error.message, messages.ERROR)
            return None
        self.message_user(request, f"The deployment of {deployment.bundle} was started.", messages.SUCCESS)
        return HttpResponseRedirect(reverse("admin:deployments_deployment_change", args=[deployment.pk]))
