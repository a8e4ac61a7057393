"""What this room refuses, beside the errors of the ground.

BadRequest
└── BadBundle           a manifest, a path or an archive breaks a rule; `code` names the rule
ApiError
└── StorageFull 507     no space left; nothing that was acknowledged is lost
UploadBusy              somebody else is writing or verifying this upload right now; look again later
└── StillHashing        it is large and was hashed for a while; the next look goes on from there
DamagedBlob             an object at a final key is not what its name says
"""

from foundation.errors import ApiError, BadRequest


class BadBundle(BadRequest):
    """A rule for manifests, paths or archives is broken."""


class StorageFull(ApiError):
    """The disk is full. What was acknowledged stays; the same request works once there is space."""

    status = 507

    def __init__(self) -> None:
        super().__init__("storage_full", "The server's bundle storage is full: free some space, then send this again.")


class UploadBusy(Exception):
    """The upload is held by a writer or by another scheduler."""


class StillHashing(UploadBusy):
    """Hashing takes longer than one look; what was hashed is remembered."""


class DamagedBlob(Exception):
    """The bytes at a final key do not match its sha256. The message says what an operator does about it."""
