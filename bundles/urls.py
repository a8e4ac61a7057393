"""The routes of bundles and uploads, under /api/v1/."""

from django.urls import path

import bundles.identifiers  # noqa: F401 - registers the converter `name`
from bundles.upload_views import CompleteUpload, OnePart, OneUpload, PartURLs, Uploads
from bundles.views import Bundles, OneBundle, PublishBundle, WithdrawBundle

urlpatterns = [
    path("bundles", Bundles.as_view(), name="bundles"),
    path("bundles/<name:name>/<name:version>", OneBundle.as_view(), name="bundle"),
    path("bundles/<name:name>/<name:version>/publish", PublishBundle.as_view(), name="bundle-publish"),
    path("bundles/<name:name>/<name:version>/withdraw", WithdrawBundle.as_view(), name="bundle-withdraw"),
    path("uploads", Uploads.as_view(), name="uploads"),
    path("uploads/<uuid:upload_id>", OneUpload.as_view(), name="upload"),
    path("uploads/<uuid:upload_id>/parts", PartURLs.as_view(), name="upload-parts"),
    path("uploads/<uuid:upload_id>/parts/<int:number>", OnePart.as_view(), name="upload-part"),
    path("uploads/<uuid:upload_id>/complete", CompleteUpload.as_view(), name="upload-complete"),
]
