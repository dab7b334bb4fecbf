"""What DRF's settings may name: strict JSON in, JSON out; and pages."""

import re
from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from rest_framework import exceptions
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.pagination import CursorPagination
from rest_framework.parsers import BaseParser
from rest_framework.request import Request

from wire.api.json import loads
from wire.errors import WireError

DEFAULT_MAX_BYTES = 2 * 1024 * 1024


class TooLarge(WireError):
    """The body has more bytes than are read."""

    status = 413
    message = "The body is too large."


class WrongCharset(WireError):
    status = 415
    message = "JSON is read as UTF-8 only."


class StrictJSONParser(BaseParser):
    """DRF's way to a body: at most BODY_MAX_BYTES (default 2 MiB) of strict JSON in UTF-8."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        charset = re.search(r"charset\s*=\s*\"?([\w-]+)", media_type or "")
        if charset and charset[1].lower() not in ("utf-8", "utf8"):
            raise WrongCharset
        limit = self.max_bytes()
        data = stream.read(limit + 1)
        if len(data) > limit:
            raise TooLarge(f"The body is larger than {limit} bytes.")
        return loads(data)

    def max_bytes(self) -> int:
        return getattr(settings, "BODY_MAX_BYTES", DEFAULT_MAX_BYTES)


class AlwaysJSON(DefaultContentNegotiation):
    """Answer in JSON whatever `Accept` says: DRF's own negotiation refuses `text/event-stream` with 406."""

    def select_renderer(self, request: Any, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type


class Pages(CursorPagination):
    """Pages of a list by cursor: rows that come meanwhile shift nothing. A subclass names the `ordering`."""

    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200

    def get_page_size(self, request: Request) -> int:
        """Refuse what DRF passes over in silence."""
        asked = request.query_params.get("page_size", str(self.page_size))
        if not (asked.isascii() and asked.isdigit() and 1 <= int(asked[:9]) <= self.max_page_size):
            raise exceptions.ValidationError(
                {"page_size": [f"This has to be a whole number from 1 to {self.max_page_size}."]}
            )
        return int(asked)

    def decode_cursor(self, request: Request) -> Any:
        try:
            return super().decode_cursor(request)
        except exceptions.NotFound:
            raise exceptions.ValidationError({"cursor": ["This isn't a cursor that the list gave."]}) from None


class NewestFirst(Pages):
    """Pages in the order of the view's attribute `newest_by`, a field such as `created_at`."""

    def get_ordering(self, request: Request, queryset: Any, view: Any) -> tuple[str, ...]:
        return (f"-{view.newest_by}", "-id")
