"""Bundles, the blobs that their manifests name, and the uploads and archives on which blobs arrive."""

from bundles.models.archive import ARCHIVE_TRANSITIONS, ArchiveState, SentArchive
from bundles.models.blob import Blob, BlobDeletion
from bundles.models.bundle import BUNDLE_TRANSITIONS, UNDECIDED, Bundle, BundleFile, BundleState
from bundles.models.upload import UNFINISHED, UPLOAD_TRANSITIONS, Upload, UploadPart, UploadState

__all__ = [
    "ARCHIVE_TRANSITIONS",
    "BUNDLE_TRANSITIONS",
    "UNDECIDED",
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
