"""Pagination by cursor: rows that are added meanwhile shift nothing."""

from typing import Any

from django.core.exceptions import ValidationError
from rest_framework import exceptions
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request


class StrictCursorPagination(CursorPagination):
    """DRF's pagination by cursor that refuses parameters it can't read. A subclass names the `ordering`."""

    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200

    def get_page_size(self, request: Request) -> int:
        """Return the page size that the query asks for. Raises `ValidationError`, where DRF's own takes its default."""
        value = request.query_params.get("page_size", str(self.page_size))
        if not (value.isascii() and value.isdigit() and 1 <= int(value[:9]) <= self.max_page_size):
            raise exceptions.ValidationError(
                {"page_size": [f"This has to be a whole number from 1 to {self.max_page_size}."]}
            )
        return int(value)

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> Any:
        """Return a page. Raises `ValidationError` for a cursor that the list didn't give."""
        try:
            return super().paginate_queryset(queryset, request, view)
        # Its position is compared with a column, and may be no value of that.
        except (exceptions.NotFound, ValidationError, ValueError):
            raise exceptions.ValidationError({"cursor": ["This isn't a cursor that the list gave."]}) from None


class NewestFirst(StrictCursorPagination):
    """Pages in the order of the view's attribute `newest_by`, a field such as `created_at`."""

    def get_ordering(self, request: Request, queryset: Any, view: Any) -> tuple[str, ...]:
        return (f"-{view.newest_by}", "-id")
