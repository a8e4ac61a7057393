"""Query parameters of lists. Unknown ones are refused, because a misspelt filter would otherwise return everything."""

from typing import Any, ClassVar, TypeVar

from django.db.models import Model
from rest_framework import generics, serializers
from rest_framework.pagination import CursorPagination
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request

from foundation.errors import BadRequest

M = TypeVar("M", bound=Model)


class ListView(generics.ListAPIView[M]):
    """A list with the filters of `filter_class`, a serializer with one field for each query parameter.

    Refuses a read with unknown or repeated query parameters: 400 `unknown_parameter`, `repeated_parameter`.
    """

    filter_class: ClassVar[type[serializers.Serializer[Any]] | None] = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method in SAFE_METHODS:
            self.check_parameters(request)

    def check_parameters(self, request: Request) -> None:
        """Raise `BadRequest` for a parameter that this list does not have, or that is given more than once."""
        known = self.known_parameters()
        unknown = sorted(request.query_params.keys() - set(known))
        if unknown:
            raise BadRequest(
                "unknown_parameter",
                f"This list has no parameter {unknown[0][:100]!r}. It has {', '.join(known)}.",
                parameters=known,
            )
        repeated = [name for name in known if len(request.query_params.getlist(name)) > 1]
        if repeated:
            raise BadRequest("repeated_parameter", f"The parameter {repeated[0]!r} is given more than once.")

    def known_parameters(self) -> list[str]:
        """Return the names of the filters and of the pagination's parameters."""
        filters = list(self.filter_class().fields) if self.filter_class else []
        paginator = self.paginator
        if not isinstance(paginator, CursorPagination):
            return filters
        return [*filters, paginator.cursor_query_param, *filter(None, [paginator.page_size_query_param])]

    def filters(self) -> dict[str, Any]:
        """Return the validated filters of the request. Raises DRF's `ValidationError` (400 `invalid`)."""
        if self.filter_class is None:
            return {}
        chosen = self.filter_class(data=self.request.query_params.dict())
        chosen.is_valid(raise_exception=True)
        values: dict[str, Any] = chosen.validated_data
        return values
