"""The rights of each role of an API token. Every role may read; other rights are granted by name."""

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
    Role.ADMIN: frozenset({"operate", "publish"}),
}


class _Right(BasePermission):
    right = ""
    message = ""
    code = "role_forbids"

    def has_permission(self, request: Request, view: "APIView") -> bool:
        token = request.auth
        if not isinstance(token, ApiToken):
            return False
        if request.method not in SAFE_METHODS and self.right not in RIGHTS.get(token.role, ()):
            roles = " or ".join(role for role, rights in RIGHTS.items() if self.right in rights)
            self.message = f"This API token's role is {token.role}; this request needs {roles}."
            return False
        if not token.is_within_rights():
            self.message = (
                f"This API token's role is {token.role}, and its owner no longer has the permissions of that role."
            )
            return False
        return True


class ReadOrOperate(_Right):
    """Every role may read; the roles operator and admin may write."""

    right = "operate"


class ReadOrPublish(_Right):
    """Every role may read; the roles publisher and admin may write."""

    right = "publish"
