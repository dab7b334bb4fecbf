"""Content negotiation for JSON APIs, which ignores `Accept`."""

from typing import Any

from rest_framework.negotiation import DefaultContentNegotiation


class JSONNegotiation(DefaultContentNegotiation):
    """Take the view's first renderer: DRF's own negotiation refuses `text/event-stream` with 406."""

    def select_renderer(self, request: Any, renderers: Any, format_suffix: str | None = None) -> Any:
        return renderers[0], renderers[0].media_type
