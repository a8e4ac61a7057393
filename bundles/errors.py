"""The errors of this app, in addition to those in `foundation.errors`.

BadRequest
└── BadBundle           a manifest, a path or an archive breaks a rule; `code` names the rule
ApiError
└── StorageFull 507     no space left; no acknowledged byte is lost
UploadBusy              another process is writing or verifying this upload; try again later
└── StillHashing        the upload is large and not fully hashed yet; the next call continues
DamagedBlob             an object at a final key does not match its sha256
"""

from foundation.errors import ApiError, BadRequest


class BadBundle(BadRequest):
    """A rule for manifests, paths or archives is broken."""


class StorageFull(ApiError):
    """The disk is full. Acknowledged bytes stay; the same request works once there is space."""

    status = 507

    def __init__(self) -> None:
        super().__init__("storage_full", "The server's bundle storage is full: free some space, then send this again.")


class UploadBusy(Exception):
    """A writer or another scheduler holds the upload."""


class StillHashing(UploadBusy):
    """Hashing takes longer than one call; the result so far is kept."""


class DamagedBlob(Exception):
    """The bytes at a final key do not match its sha256. The message says what an operator can do about it."""
