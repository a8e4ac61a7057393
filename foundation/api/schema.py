"""Additions to the OpenAPI document."""

from typing import Any

ERROR = {
    "type": "object",
    "description": "Branch on `code`; docs/api.md and docs/device-api.md list them. Some errors have further fields.",
    "properties": {
        "error": {
            "type": "object",
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
            "required": ["code", "message"],
        }
    },
    "required": ["error"],
}


def with_errors(result: dict[str, Any], **_: Any) -> dict[str, Any]:
    """Document the error format as the `default` response of every operation."""
    result["components"]["schemas"]["Error"] = ERROR
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    for operations in result["paths"].values():
        for operation in operations.values():
            operation["responses"].setdefault("default", {"description": "A refusal", "content": content})
    return result
