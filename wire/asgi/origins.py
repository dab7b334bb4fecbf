"""Which pages may connect over a WebSocket: a browser sends its cookies along, whatever page connects."""

from django.http import HttpRequest
from django.middleware.csrf import CsrfViewMiddleware

from wire.errors import json_error


class OriginCheck(CsrfViewMiddleware):
    """Django's rule for where a form may come from."""

    def accepts(self, request: HttpRequest) -> bool:
        return "Origin" not in request.headers or bool(self._origin_verified(request))  # type: ignore[attr-defined]


def may_connect(request: HttpRequest) -> bool:
    """Tell whether it is a program that connects, or a page from here or from CSRF_TRUSTED_ORIGINS."""
    return OriginCheck(lambda _: json_error(403)).accepts(request)
