"""What an upload refuses, whichever way its parts come."""

from bundles.models import Upload
from foundation.errors import Conflict, NotFound


def check_number(upload: Upload, number: int) -> None:
    """Raises `NotFound` (`no_such_part`)."""
    if not 1 <= number <= upload.part_count:
        raise NotFound("no_such_part", f"This upload has the parts 1 to {upload.part_count}.")


def closed(upload: Upload) -> Conflict:
    """The refusal of a change to an upload that takes none any more."""
    upload.refresh_from_db()
    reason = f" ({upload.state_reason})" if upload.state_reason else ""
    return Conflict(
        "upload_closed", f"This upload is {upload.state}{reason} and takes nothing more.", state=upload.state
    )
