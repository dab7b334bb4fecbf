"""Origins that may open a WebSocket: a browser sends its cookies whichever page connects."""

from django.http import HttpRequest
from django.middleware.csrf import CsrfViewMiddleware

from wire.errors import json_error


class OriginCheck(CsrfViewMiddleware):
    """Django's rule for the origin of a form."""

    def accepts(self, request: HttpRequest) -> bool:
        return "Origin" not in request.headers or bool(self._origin_verified(request))  # type: ignore[attr-defined]


def may_connect(request: HttpRequest) -> bool:
    """Tell whether a program connects, or a page of this site or of CSRF_TRUSTED_ORIGINS."""
    return OriginCheck(lambda _: json_error(403)).accepts(request)
