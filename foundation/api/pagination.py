"""Cursor pagination with at most 500 rows per page. Every page costs the same."""

from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db.models import Model
from django.utils.timezone import is_naive
from rest_framework.exceptions import NotFound
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request
from rest_framework.views import APIView

from foundation.errors import BadRequest


class Pages(CursorPagination):
    """The pages of one list. `ordering` is one field of the model; the cursor contains its values."""

    page_size = 100
    max_page_size = 500
    page_size_query_param = "page_size"
    ordering = "pk"

    def paginate_queryset(self, queryset: Any, request: Request, view: APIView | None = None) -> list[Any] | None:
        self.model: type[Model] = queryset.model
        return super().paginate_queryset(queryset, request, view)

    def decode_cursor(self, request: Request) -> Cursor | None:
        """Return the request's cursor. Raises `BadRequest` (`bad_cursor`) if it is not valid."""
        try:
            cursor = super().decode_cursor(request)
        except NotFound:
            raise self._bad_cursor() from None
        if cursor is not None and cursor.position is not None and not self._is_position(str(cursor.position)):
            raise self._bad_cursor()
        return cursor

    def _bad_cursor(self) -> BadRequest:
        return BadRequest("bad_cursor", "This cursor is not valid: start again without one.")

    def _is_position(self, text: str) -> bool:
        name = self.ordering[0].removeprefix("-")
        options = self.model._meta
        field: Any = options.pk if name == "pk" else options.get_field(name)
        try:
            value = field.to_python(text)
        except (ValidationError, ValueError, OverflowError):
            return False
        return "\x00" not in text and not (isinstance(value, datetime) and is_naive(value))


class NewestFirst(Pages):
    """Rows by their time of creation."""

    ordering = "-created_at"
