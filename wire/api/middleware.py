"""JSON errors under the API's paths, also where Django or a middleware answered."""

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from wire.errors import json_error
from wire.observe.request_id import GetResponse, Middleware, around

__all__ = ["json_errors_middleware"]


@sync_and_async_middleware
def json_errors_middleware(get_response: GetResponse) -> Middleware:
    """Answer in JSON where Django or a middleware answered an API path with a page (404, CSRF, a bad host, a crash)."""

    def after(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        is_api = request.path.startswith(getattr(settings, "API_PREFIX", "/api/"))
        if not is_api or response.status_code < 400 or response.get("Content-Type", "").startswith("application/json"):
            return response
        error = json_error(response.status_code)
        for name in ("Allow", "Retry-After", "WWW-Authenticate"):
            if name in response.headers:
                error.headers[name] = response.headers[name]
        return error

    return around(get_response, lambda request: None, after)
