"""What each role of an API token may do. Reading is for all; each other right is granted by name."""

from typing import TYPE_CHECKING

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from foundation.accounts.models import ApiToken, Role

if TYPE_CHECKING:  # DRF loads this module while it loads its own views
    from rest_framework.views import APIView

RIGHTS: dict[str, frozenset[str]] = {
    Role.VIEWER: frozenset(),
    Role.OPERATOR: frozenset({"operate"}),
    Role.PUBLISHER: frozenset({"publish"}),
    Role.APPROVER: frozenset({"approve"}),
    Role.ADMIN: frozenset({"operate", "publish", "approve", "administer"}),
}


class _Right(BasePermission):
    right = ""
    message = ""
    code = "role_forbids"

    def has_permission(self, request: Request, view: "APIView") -> bool:
        if not isinstance(request.auth, ApiToken):
            return False
        may = " or ".join(role for role, rights in RIGHTS.items() if self.right in rights)
        self.message = f"This API token's role is {request.auth.role}; that takes {may}."
        return request.method in SAFE_METHODS or self.right in RIGHTS[request.auth.role]


class ReadOrOperate(_Right):
    """Reading for every role; the rest for operators."""

    right = "operate"


class ReadOrPublish(_Right):
    """Reading for every role; the rest for publishers."""

    right = "publish"
