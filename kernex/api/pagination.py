"""Lists come in pages of at most 500, walked by cursor so that a page costs the same at any depth."""

from rest_framework.pagination import CursorPagination


class Pages(CursorPagination):
    page_size = 100
    max_page_size = 500
    page_size_query_param = "page_size"
    ordering = "pk"
