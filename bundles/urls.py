"""The addresses of the bundles room, below /api/v1/."""

from django.urls import path, register_converter
from django.urls.converters import StringConverter

from bundles.manifest import NAME_PATTERN
from bundles.upload_views import CompleteUpload, OnePart, OneUpload, PartAddresses, Uploads
from bundles.views import Bundles, OneBundle, PublishBundle, WithdrawBundle


class PlainName(StringConverter):
    """Names and versions of bundles; anything else is no address."""

    regex = NAME_PATTERN


register_converter(PlainName, "plain")

urlpatterns = [
    path("bundles", Bundles.as_view(), name="bundles"),
    path("bundles/<plain:name>/<plain:version>", OneBundle.as_view(), name="bundle"),
    path("bundles/<plain:name>/<plain:version>/publish", PublishBundle.as_view(), name="bundle-publish"),
    path("bundles/<plain:name>/<plain:version>/withdraw", WithdrawBundle.as_view(), name="bundle-withdraw"),
    path("uploads", Uploads.as_view(), name="uploads"),
    path("uploads/<uuid:upload_id>", OneUpload.as_view(), name="upload"),
    path("uploads/<uuid:upload_id>/parts", PartAddresses.as_view(), name="upload-parts"),
    path("uploads/<uuid:upload_id>/parts/<int:number>", OnePart.as_view(), name="upload-part"),
    path("uploads/<uuid:upload_id>/complete", CompleteUpload.as_view(), name="upload-complete"),
]
