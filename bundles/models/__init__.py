"""Bundles, the blobs that their manifests name, and the uploads and archives that deliver them."""

from bundles.models.archive import ARCHIVE_TRANSITIONS, ArchiveState, SentArchive
from bundles.models.blob import Blob, BlobDeletion
from bundles.models.bundle import BEFORE_READY, BUNDLE_TRANSITIONS, Bundle, BundleFile, BundleState
from bundles.models.upload import UNFINISHED, UPLOAD_TRANSITIONS, Upload, UploadPart, UploadState

__all__ = [
    "ARCHIVE_TRANSITIONS",
    "BEFORE_READY",
    "BUNDLE_TRANSITIONS",
    "UNFINISHED",
    "UPLOAD_TRANSITIONS",
    "ArchiveState",
    "Blob",
    "BlobDeletion",
    "Bundle",
    "BundleFile",
    "BundleState",
    "SentArchive",
    "Upload",
    "UploadPart",
    "UploadState",
]
