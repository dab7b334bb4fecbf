"""Middleware that makes the errors of Django and of other middleware JSON, under the API's paths."""

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from wire.errors import json_error
from wire.observe.request_id import GetResponse, Middleware, around

__all__ = ["json_errors_middleware"]


@sync_and_async_middleware
def json_errors_middleware(get_response: GetResponse) -> Middleware:
    """Replace error pages under the API's paths (404, CSRF, an invalid host, a crash) by errors in JSON."""

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
